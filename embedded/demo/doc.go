// Package demo is what `millrace demo` shows: two sample upstreams, a member of the service hello that writes the wire
// protocol by hand, and a guided tour that checks each of its claims.
package demo
