// Package state stores what a node must remember across restarts in one SQLite file: its identity and key, its secrets,
// the configurations that worked, a few notes, and a journal of events.
//
// Guarantees:
//
//   - What a method acknowledged survives a crash of the process, kill -9, and a loss of power on a disk that honours
//     fsync (WAL, synchronous=FULL). A write that wasn't acknowledged is stored completely or not at all.
//   - Identity and secrets are created once and don't change for the life of the file.
//   - The file stays bounded: [MaxConfigs] configurations and [MaxEvents] events of at most [MaxDetailBytes].
//   - A corrupt file is moved aside, never deleted or overwritten, and an empty one takes its place: [Store.SetAside]
//     returns where the old file is. The node has a new identity then, and no history.
//   - An intact file that mustn't be written isn't touched: that of a newer Millrace ([ErrNewer]), that of another
//     program ([ErrForeign]), and that of a running node ([ErrInUse]).
//   - A busy or unreadable file, or a full disk, isn't taken for corruption.
//
// [New] creates a [Store] without I/O. It works between [Store.Open] and [Store.Close]. All its methods may be called
// from several goroutines. Writes use one connection, one after the other; reads use others and don't wait for writes.
//
// The package logs nothing. It needs flock(2): Linux, macOS and the BSDs, on a local disk.
package state
