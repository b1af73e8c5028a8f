package nodetest

import (
	"net"
	"sync"
	"testing"
)

// Serve listens on loopback and calls serve with each connection, which it closes when serve returns. At its end the
// test closes the listener and waits for all calls of serve.
func Serve(tb testing.TB, serve func(net.Conn)) (addr string) {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = c.Close() }() // serve may have closed it
				serve(c)
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close() // fails only if it is closed
		all.Wait()
	})
	return l.Addr().String()
}
