package main

import (
	"io/fs"
	"os"
	"runtime/debug"

	"millrace/embedded"
	"millrace/embedded/machine"
)

// limitMemory lets the garbage collector work less while there is memory, and harder before the process reaches the
// limit of its cgroup, at which the system would kill it. GOMEMLIMIT in the environment goes first.
func limitMemory() *embedded.GC {
	gc := embedded.TuneGC()
	if limit := memoryLimit(os.DirFS("/"), os.Getenv("GOMEMLIMIT")); limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return gc
}

// memoryLimit is what Go's memory should stay within; 0 means that it isn't limited here. SQLite's memory isn't Go's.
func memoryLimit(root fs.FS, environment string) int64 {
	if environment != "" {
		return 0
	}
	return machine.CgroupMemory(root) / 100 * 85
}
