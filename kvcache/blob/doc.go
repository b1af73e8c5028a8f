// Package blob keeps contents by their digest (SHA-256): whole in the mesh, and as files on each node that serves them.
// It knows nothing of what they are: a site's files, its manifests, a function's code.
//
// JetStream has the truth, a stream of chunks; what is served are files. No request waits for JetStream unless its blob
// isn't on the node's disk yet.
//
// Guarantees:
//
//   - No byte is given out that wasn't checked: chunks when they come, a file when it is written, when it is read into
//     memory, and again before its first use after an unclean end. A wrong or short file is removed, counted and
//     fetched anew; a wrong chunk is asked for elsewhere.
//   - A blob is in the mesh whole or not at all, and on a disk whole or not at all.
//   - What Missing says is there, and what Put has stored, isn't collected within the grace of Collect, whatever else
//     publishes or collects at the same time (DESIGN.md has the proof).
//   - Memory, open files, bytes under way and what is done for others are bounded, whatever the size of a blob.
//   - Without NATS, what is on the disk is served.
//
// A blob is put by one node, brought by the others, and served through its File:
//
//	b, err := here.PutBytes(ctx, data)
//	err = there.Bring(ctx, []node.Blob{b}, nil)
//	f := there.File(b)
//	content := f.Bytes() // in memory, or nil: then Load, Acquire for sendfile, or Stream if it isn't Here
package blob
