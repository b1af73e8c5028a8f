// Package bench measures Millrace from outside: the gateway, the upstream and the load each run in a process of their
// own, and what counts is the gateway's own CPU time for a request (user and system, from /proc), the figure that
// survives a noisy machine.
//
//	go test ./embedded/bench -run '^$' -bench . -benchtime 100000x
package bench
