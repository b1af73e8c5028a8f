//go:build !(linux || darwin || freebsd)

package machine

import "errors"

// DiskFree isn't known here.
func DiskFree(string) (int64, error) { return 0, errors.ErrUnsupported }
