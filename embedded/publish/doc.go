// Package publish is the publisher's side of sites: it reads a folder, makes the compressed forms of its files, and
// sends what the mesh lacks to the admin API of a node.
//
// Scan lists and hashes a folder, and says what is wrong with it, before a byte is sent. Nothing outside of the folder
// is read, whatever links are in it; secrets and names that no request could ask for are refused. Client.Publish makes
// a folder the live deploy of a site, whole or not at all: it sends the blobs that the mesh lacks, goes on after broken
// connections where it was, and reports each node. Two publishers never overwrite each other: the second gets
// ErrLostRace.
//
// Memory doesn't grow with the size of files: they are read in pieces, and compressed forms wait in a temporary file.
package publish
