package main

import (
	"io/fs"
	"os"
	"runtime/debug"

	"millrace/embedded"
	"millrace/embedded/machine"
)

// limitMemory makes the garbage collector run less often while there is memory, and more often before the process
// reaches the memory limit of its cgroup, at which the system would kill it. If GOMEMLIMIT is set, it sets no limit
// itself.
func limitMemory() *embedded.GC {
	gc := embedded.TuneGC()
	if limit := memoryLimit(os.DirFS("/"), os.Getenv("GOMEMLIMIT")); limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return gc
}

// memoryLimit is the limit for the memory of the Go runtime; 0 for none. It is 85 % of the cgroup's, since SQLite's
// memory isn't part of Go's.
func memoryLimit(root fs.FS, environment string) int64 {
	if environment != "" {
		return 0
	}
	return machine.CgroupMemory(root) / 100 * 85
}
