package nodetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreePorts gives addresses on loopback that nobody listens on, for tests of clusters, whose members must know each
// other's addresses before they start. They aren't of those that the system gives to connections and to listeners
// without a port of their own, who might take one meanwhile.
func FreePorts(tb testing.TB, n int) []string {
	tb.Helper()
	out, err := FindPorts(n)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// FindPorts is FreePorts for those who have no testing.TB.
func FindPorts(n int) ([]string, error) {
	const first, last, tries = 12_000, 32_000, 1000
	var out []string
	for range tries {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)) //nolint:gosec // G404: any will do
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			continue // somebody has it
		}
		defer l.Close() // all are held until all are known
		if out = append(out, addr); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%d of %d ports are free", len(out), n)
}
