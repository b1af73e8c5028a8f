//go:build !(linux || darwin || freebsd || netbsd)

package machine

// addressSpace returns 0: the limit isn't known on this system.
func addressSpace() int64 { return 0 }
