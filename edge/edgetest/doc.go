// Package edgetest has what the tests of edge and its rooms share: routes, and raw requests with what must become of
// them.
package edgetest
