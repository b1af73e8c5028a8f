//go:build race

package main

// raceEnabled reports whether the race detector is on, which makes everything slow. On a small machine the processes of
// a cluster then get no processor for longer than a request waits for the store, so that some requests are refused, or
// answered 503, that would be admitted. None is admitted beyond a limit.
const raceEnabled = true
