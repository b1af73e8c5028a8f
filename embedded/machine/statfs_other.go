//go:build !(linux || darwin || freebsd)

package machine

import "errors"

// DiskFree returns errors.ErrUnsupported on this system.
func DiskFree(string) (int64, error) { return 0, errors.ErrUnsupported }
