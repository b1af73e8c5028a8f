// Package state keeps what one node must remember across restarts, in one SQLite file: its identity and
// key, its secrets, the configurations that worked, a few notes, and a journal of what happened to it.
//
// Guarantees:
//
//   - What a method acknowledged survives a crash of the process, kill -9, and a loss of power on a disk that
//     honours fsync (WAL, synchronous=FULL). What it didn't acknowledge is there whole or not at all.
//   - Identity and secrets are made once and then constant for the life of the file.
//   - The file stays bounded: [MaxConfigs] configurations and [MaxEvents] events of at most [MaxDetailBytes].
//   - A corrupt file is moved aside, never deleted or overwritten, and an empty one takes its place:
//     [Store.SetAside] says where the old bytes are. The node has a new identity then, and no history.
//   - A file that is intact but isn't ours to write is left untouched: that of a newer Millrace ([ErrNewer]),
//     that of another program ([ErrForeign]), and that of a running node ([ErrInUse]).
//   - Neither a busy or unreadable file nor a full disk is taken for corruption.
//
// A [Store] is created by [New], which does no I/O, and works between [Store.Open] and [Store.Close]. All its
// methods may be called from several goroutines. Writes wait for each other on one connection; reads go past
// them on others.
//
// The package logs nothing. It runs where flock(2) exists: Linux, macOS and the BSDs, on a local disk.
package state
