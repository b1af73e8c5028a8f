package edgetest

import (
	"fmt"
	"maps"
	"net/http"
	"testing"

	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// openLimiter makes the limiter, which has its store at once, or never.
func (r *Rig) openLimiter(tb testing.TB) {
	tb.Helper()
	conn := r.Conn
	if r.cfg.Limits.Apart {
		conn, r.CloseLimits = connect(tb)
	}
	opens := !r.cfg.Limits.Away
	l, err := limit.New(limit.Config{Node: "abc", NATS: conn.NATS(), Replicas: 1, Log: nodetest.Discard()})
	if err == nil && opens {
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
	if opens {
		nodetest.Eventually(tb, "the store of limits is there", l.Ready)
	}
	l.SetRules(LimitRules(r.cfg.Limits.Named, r.cfg.Routes))
	r.Limiter = l
}

// LimitRules lists the limits as a node does.
func LimitRules(named map[string]node.Limit, routes []node.Route) map[string]node.Limit {
	rules := map[string]node.Limit{}
	maps.Copy(rules, named)
	for _, r := range routes {
		for i, l := range r.Limit {
			if l.Use == "" {
				rules[r.LimitID(i)] = l
			}
		}
	}
	return rules
}

// Per is a limit as a configuration has it: 5/1m, or the name of another, changed.
func Per(short string, change ...func(*node.Limit)) node.Limit {
	var l node.Limit
	if err := l.UnmarshalText([]byte(short)); err != nil {
		panic(err)
	}
	for _, f := range change {
		f(&l)
	}
	return l
}

// InFlight is a limit on requests in flight.
func InFlight(n int, change ...func(*node.Limit)) node.Limit {
	var l node.Limit
	l.Defaults()
	l.Algorithm, l.Max = node.AlgorithmConcurrent, n
	for _, f := range change {
		f(&l)
	}
	return l
}

// HeaderForm sets the header fields that tell of the limit.
func HeaderForm(form node.HeaderForm) func(*node.Limit) {
	return func(l *node.Limit) { l.Headers = form }
}

// By sets whose requests are counted together.
func By(keys ...string) func(*node.Limit) {
	return func(l *node.Limit) {
		l.Key = nil
		for _, text := range keys {
			var k node.LimitKey
			if err := k.UnmarshalText([]byte(text)); err != nil {
				panic(err)
			}
			l.Key = append(l.Key, k)
		}
	}
}

// Passes sends n requests in turn and counts those that weren't refused.
func (r *Rig) Passes(tb testing.TB, n int, path string, header ...string) (passed int) {
	tb.Helper()
	for range n {
		switch resp, body := r.Do(tb, "GET", path, "", header...); resp.StatusCode { //nolint:bodyclose // Do has closed it
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
		default:
			tb.Errorf("%s: got %d %s", path, resp.StatusCode, body)
		}
	}
	return passed
}

// LimitStats gives the counts of a limit.
func (r *Rig) LimitStats(name string) limit.RuleStats { return r.Limiter.Rule(name).Stats() }

// WaitSpent waits until so much of a client's limit is spent. Permits that are on their way from the store look spent
// for a moment.
func WaitSpent(tb testing.TB, l *limit.Limiter, name, client string, want int) {
	tb.Helper()
	rule := l.Rule(name)
	nodetest.Eventually(tb, fmt.Sprintf("%q has spent %d of %s", client, want, name), func() bool {
		u, err := rule.Usage(tb.Context(), rule.Key([]byte(client)))
		return err == nil && int(u.Spent) == want
	})
}
