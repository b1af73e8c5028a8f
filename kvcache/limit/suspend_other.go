//go:build !linux

package limit

import "time"

// suspended returns 0: here the monotonic clock may count suspension already.
func suspended() time.Duration { return 0 }
