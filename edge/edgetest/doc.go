// Package edgetest has what the tests of edge and of the packages below it share: Rig, an edge with a mesh, services
// and, if a test wants them, a cache and limits; routes and limits to configure it with; answers for its services to
// give; requests, and checks of what the responses tell; and raw requests with what must become of them.
package edgetest
