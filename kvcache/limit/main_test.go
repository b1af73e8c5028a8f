package limit_test

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rule returns a limit with the configuration's defaults.
func rule(short string, change ...func(*node.Limit)) node.Limit {
	var l node.Limit
	if err := l.UnmarshalText([]byte(short)); err != nil {
		panic(err)
	}
	for _, f := range change {
		f(&l)
	}
	return l
}

// open runs a limiter on a server until the test ends.
func open(tb testing.TB, s *natsserver.Server, name string, limits map[string]node.Limit,
	change ...func(*limit.Config),
) *limit.Limiter {
	tb.Helper()
	conn := natsservertest.Connect(tb, s, func(c *mesh.Config) { c.Name = name })
	cfg := limit.Config{Node: "id-" + name, NATS: conn.NATS(), Replicas: 1, Log: nodetest.Discard()}
	for _, f := range change {
		f(&cfg)
	}
	l, err := limit.New(cfg)
	if err == nil {
		l.SetRules(limits)
		err = l.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	nodetest.Eventually(tb, name+" has the store", l.Ready)
	return l
}

// three runs a limiter on each of three clustered servers.
func three(tb testing.TB, limits map[string]node.Limit) []*limit.Limiter {
	tb.Helper()
	var out []*limit.Limiter
	for i, s := range natsservertest.StartThree(tb) {
		out = append(out, open(tb, s, fmt.Sprint("n", i+1), limits, func(c *limit.Config) {
			c.Replicas, c.Nodes, c.Slots = 3, func() int { return 3 }, 3
		}))
	}
	return out
}
