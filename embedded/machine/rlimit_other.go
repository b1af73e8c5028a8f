//go:build !(linux || darwin || freebsd || netbsd)

package machine

// addressSpace is what the process may have of it; 0 if it isn't known.
func addressSpace() int64 { return 0 }
