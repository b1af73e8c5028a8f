// Package blob keeps contents by their digest: whole in the mesh, and as files on each node that serves them.
package blob
