package edge_test

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// limitRig is an edge whose routes may have limits. It believes X-Forwarded-For, so that tests come from any address.
type limitRig struct {
	*rig

	limits *limit.Limiter
	store  *natsserver.Server // that keeps the limits
	named  map[string]node.Limit
}

// limitSetup is what tests change of it.
type limitSetup struct {
	edge  node.Edge
	named map[string]node.Limit // under limits
	away  bool                  // the store never answers
	apart bool                  // the limits have a NATS of their own
}

func startLimits(tb testing.TB, change func(*limitSetup), routes ...node.Route) *limitRig {
	tb.Helper()
	set := limitSetup{edge: node.Default().Edge}
	set.edge.Listen, set.edge.TrustedProxies = "127.0.0.1:0", prefixes("127.0.0.0/8")
	if change != nil {
		change(&set)
	}
	r := &limitRig{rig: &rig{log: &nodetest.Output{}}, named: set.named, store: natsservertest.Start(tb)}
	r.conn = natsservertest.Connect(tb, r.store)
	s, err := r.conn.NewService(mesh.ServiceConfig{
		Destination: r.conn.Service("echo"), Handler: mesh.HandlerFunc(echo),
		Limit: 1000,
	})
	if err == nil {
		err = s.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	store := r.conn
	if set.apart {
		r.store = natsservertest.Start(tb)
		store = natsservertest.Connect(tb, r.store)
	}
	r.limits = openLimits(tb, store, !set.away)
	r.limits.SetRules(rulesOf(set.named, routes))
	log := slog.New(slog.NewJSONHandler(r.log, nil))
	r.Server, err = edge.New(edge.Config{
		Node: "n1", ID: "abc", Edge: set.edge, Routes: routes, Mesh: r.conn,
		Limits: r.limits, Log: log,
	})
	if err == nil {
		err = r.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	r.addr = r.Addr().String()
	r.url = "http://" + r.addr
	return r
}

// openLimits makes a limiter, which has its store at once if it is opened, and never otherwise.
func openLimits(tb testing.TB, conn *mesh.Conn, opens bool) *limit.Limiter {
	tb.Helper()
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
	return l
}

// rulesOf lists the limits as a node does.
func rulesOf(named map[string]node.Limit, routes []node.Route) map[string]node.Limit {
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

// per is a limit as a configuration has it: 5/1m, or the name of another, changed.
func per(short string, change ...func(*node.Limit)) node.Limit {
	var l node.Limit
	if err := l.UnmarshalText([]byte(short)); err != nil {
		panic(err)
	}
	for _, f := range change {
		f(&l)
	}
	return l
}

// inFlight is a limit on requests in flight.
func inFlight(n int, change ...func(*node.Limit)) node.Limit {
	var l node.Limit
	l.Defaults()
	l.Algorithm, l.Max = node.AlgorithmConcurrent, n
	for _, f := range change {
		f(&l)
	}
	return l
}

func headers(form node.HeaderForm) func(*node.Limit) {
	return func(l *node.Limit) { l.Headers = form }
}

// by sets whose requests are counted together.
func by(keys ...string) func(*node.Limit) {
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

func prefixes(list ...string) []node.Prefix {
	var out []node.Prefix
	for _, text := range list {
		var p node.Prefix
		if err := p.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		out = append(out, p)
	}
	return out
}

// limitedRoute is a route to the service echo whose name, and so that of its first limit, is name, under /name.
func limitedRoute(name string, limits ...node.Limit) node.Route {
	return edgetest.Route(name, "/"+name+"/*", func(r *node.Route) { r.To.Name, r.Limit = "echo", limits })
}

// passes sends n requests in turn and counts those that weren't refused.
func (r *limitRig) passes(tb testing.TB, n int, path string, header ...string) (passed int) {
	tb.Helper()
	for range n {
		switch resp, body := r.do(tb, "GET", path, "", header...); resp.StatusCode {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
		default:
			tb.Errorf("%s: got %d %s", path, resp.StatusCode, body)
		}
	}
	return passed
}

// stats gives the counts of a limit.
func (r *limitRig) stats(name string) limit.RuleStats { return r.limits.Rule(name).Stats() }

// spends waits until so much of a client's limit is spent. Permits that are on their way from the store look spent for
// a moment.
func spends(tb testing.TB, l *limit.Limiter, name, client string, want int) {
	tb.Helper()
	rule := l.Rule(name)
	nodetest.Eventually(tb, fmt.Sprintf("%q has spent %d of %s", client, want, name), func() bool {
		u, err := rule.Usage(tb.Context(), rule.Key([]byte(client)))
		return err == nil && int(u.Spent) == want
	})
}

// quota is what RateLimit-Policy and RateLimit tell of one limit.
type quota struct {
	name    string
	q, w    int64
	unit    string // qu
	key     string // pk
	r, t    int64
	hasTime bool // t
}

// quotas reads both fields as structured fields (RFC 9651), and checks what draft-ietf-httpapi-ratelimit-headers-10
// asks of them.
func quotas(tb testing.TB, h http.Header) []quota {
	tb.Helper()
	policy, err := httpsfv.UnmarshalList(h.Values("RateLimit-Policy"))
	if err != nil {
		tb.Fatalf("RateLimit-Policy %q: %v", h.Values("RateLimit-Policy"), err)
	}
	left, err := httpsfv.UnmarshalList(h.Values("RateLimit"))
	if err != nil || len(left) != len(policy) {
		tb.Fatalf("RateLimit %q beside %q: %v", h.Values("RateLimit"), h.Values("RateLimit-Policy"), err)
	}
	out := make([]quota, len(policy))
	for i := range policy {
		p, l := policy[i].(httpsfv.Item), left[i].(httpsfv.Item)
		q := &out[i]
		q.name, _ = p.Value.(string)
		if q.name == "" || l.Value != p.Value {
			tb.Errorf("item %d is named %v and %v", i, p.Value, l.Value)
		}
		q.read(tb, p.Params, "q w qu pk")
		q.read(tb, l.Params, "r t")
		if q.q < q.r || q.r < 0 || q.t < 0 || (q.w == 0) == q.hasTime {
			tb.Errorf("%+v can't be", *q)
		}
	}
	return out
}

func (q *quota) read(tb testing.TB, p *httpsfv.Params, known string) {
	tb.Helper()
	for _, name := range p.Names() {
		v, _ := p.Get(name)
		ok := strings.Contains(" "+known+" ", " "+name+" ")
		switch name {
		case "q":
			q.q = whole(v, &ok)
		case "w":
			if q.w = whole(v, &ok); q.w < 1 {
				ok = false
			}
		case "r":
			q.r = whole(v, &ok)
		case "t":
			q.t, q.hasTime = whole(v, &ok), true
		case "qu":
			q.unit, _ = v.(string)
			ok = ok && strings.Contains(" requests content-bytes concurrent-requests ", " "+q.unit+" ")
		case "pk":
			b, isBytes := v.([]byte)
			q.key, ok = string(b), ok && isBytes
		}
		if !ok {
			tb.Errorf("parameter %s is %v", name, v)
		}
	}
}

func whole(v any, ok *bool) int64 {
	n, isInt := v.(int64)
	*ok = *ok && isInt && n >= 0
	return n
}

// only gives the one limit that a response tells of.
func only(tb testing.TB, h http.Header) quota {
	tb.Helper()
	list := quotas(tb, h)
	if len(list) != 1 {
		tb.Fatalf("%d limits in %q", len(list), h.Values("RateLimit-Policy"))
	}
	return list[0]
}

// far is a window that no test outlives.
const far = time.Hour
