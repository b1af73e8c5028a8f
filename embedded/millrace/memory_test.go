package main

import (
	"testing"
	"testing/fstest"
)

// The limit of Go's memory is below that of the cgroup, unless the environment sets one.
func TestMemoryLimit(t *testing.T) {
	root := fstest.MapFS{
		"proc/self/cgroup":         {Data: []byte("0::/\n")},
		"proc/self/mountinfo":      {Data: []byte("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")},
		"sys/fs/cgroup/memory.max": {Data: []byte("419430400\n")},
	}
	if got := memoryLimit(root, ""); got != 419430400/100*85 {
		t.Errorf("limit %d", got)
	}
	if got := memoryLimit(root, "1GiB"); got != 0 {
		t.Errorf("GOMEMLIMIT is set, and the limit is %d", got)
	}
	if got := memoryLimit(fstest.MapFS{}, ""); got != 0 {
		t.Errorf("no cgroup: %d", got)
	}
}
