package state

// LogLost reports whether a write-ahead log has lost acknowledged commits.
func LogLost(log []byte) bool { return walLost(log) }
