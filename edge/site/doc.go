// Package site answers requests with the files of sites: those of the deploy that is live, and hashed files of other
// deploys that the node has.
//
// Guarantees:
//
//   - A response is of one deploy: its file, its fields and its Millrace-Deploy.
//   - Nothing is asked of other nodes, and no file is looked for, while a request is answered; only a file that this
//     node doesn't have yet is fetched.
//   - A file that is shorter than its deploy says is never sent as if it were whole: the connection is reset, and the
//     file reported.
//   - A small file that is in memory costs no allocation.
package site
