//go:build unix

package front

import (
	"math"
	"syscall"
)

// descriptors is how many files this process may have open. Go has raised the soft limit to the hard one at its start.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, math.MaxInt32))
}
