package state

// LogLost reports whether a write-ahead log has lost what was acknowledged.
func LogLost(log []byte) bool { return walLost(log) }
