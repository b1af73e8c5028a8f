// Package demo holds what `millrace demo` shows: two sample upstreams, a member of the service hello that speaks the
// wire protocol by hand, and a guided tour that checks each of its claims.
package demo
