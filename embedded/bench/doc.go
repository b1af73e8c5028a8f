// Package bench measures Millrace from outside. The gateway, the upstream and the load each run in a process of their
// own. The main figure is the gateway's own CPU time per request (user and system, from /proc), since it varies little
// on a busy machine.
//
//	go test ./embedded/bench -run '^$' -bench . -benchtime 100000x
package bench
