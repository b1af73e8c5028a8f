//go:build !linux

package limit

import "time"

// suspended is for how long the machine has slept: here the monotonic clock may count that already.
func suspended() time.Duration { return 0 }
