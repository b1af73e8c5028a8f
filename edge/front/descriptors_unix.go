//go:build unix

package front

import (
	"math"
	"syscall"
)

// descriptors returns how many files this process may have open, or 0 if that isn't known. The soft limit is the one
// that counts: the Go runtime has raised it to the hard limit at its start.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, math.MaxInt32))
}
