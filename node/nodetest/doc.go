// Package nodetest has helpers for the tests of every package: Eventually, which waits for a condition; a log that is
// discarded, and an output that can be read while it is written; free ports; a listener that passes its connections on;
// and the goroutines that leak checks must ignore.
package nodetest
