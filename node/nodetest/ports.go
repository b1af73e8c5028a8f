package nodetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreePorts returns unused addresses on loopback, for tests of clusters whose nodes must know each other's addresses
// before they start. They are outside the range from which the system assigns ports, so nobody else takes one
// meanwhile.
func FreePorts(tb testing.TB, n int) []string {
	tb.Helper()
	out, err := FindPorts(n)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// FindPorts is FreePorts without a testing.TB.
func FindPorts(n int) ([]string, error) {
	const first, last, tries = 12_000, 32_000, 1000
	var out []string
	for range tries {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)) //nolint:gosec // G404: any will do
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			continue // the port is in use
		}
		defer l.Close() // all stay open until all are found
		if out = append(out, addr); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%d of %d ports are free", len(out), n)
}
