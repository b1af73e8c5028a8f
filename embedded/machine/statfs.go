//go:build linux || darwin || freebsd

package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DiskFree returns how many bytes an unprivileged process may still write on the disk of a directory.
func DiskFree(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:gosec,unconvert // G115: a size on a disk; the types differ from system to system
}
