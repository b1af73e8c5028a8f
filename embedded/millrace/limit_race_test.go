//go:build race

package main

// raced says that the race detector makes everything slow: on a small machine the processes of a cluster then get no
// processor for longer than a request waits for the store, so that some are refused, or answered 503, which would be
// admitted. None is admitted beyond a limit.
const raced = true
