//go:build linux || darwin || freebsd || netbsd

package machine

import (
	"math"
	"syscall"
)

// addressSpace returns the limit on the process's address space; 0 if there is none.
func addressSpace() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err != nil || limit.Cur > math.MaxInt64>>1 {
		return 0
	}
	return int64(limit.Cur)
}
