//go:build unix

package edge

import "syscall"

// descriptors is how many files this process may have open. Go has raised the soft limit to the hard one at its start.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur) //nolint:unconvert // its type differs between systems
}
