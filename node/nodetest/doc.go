// Package nodetest has what the tests of every package need: Eventually, which waits for what other goroutines or
// processes make true; a log that nobody reads and an output that can be read while it grows; free ports; a listener
// that hands out its connections; and the goroutines that leak checks must overlook.
package nodetest
