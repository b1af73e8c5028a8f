package bench_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkCacheHit compares the cost of a hit in a shared cache: Millrace and, where they are installed, other caches.
// They run in turns, each in a process of its own. The body has 2 KiB.
//
//	go test ./embedded/bench -run '^$' -bench 'CacheHit$' -benchtime 500000x
func BenchmarkCacheHit(b *testing.B) { compare(b, comparison{peers: cachePeers(), size: 2 << 10}) }

// BenchmarkCacheHitLarge is BenchmarkCacheHit with a body of 64 KiB.
func BenchmarkCacheHitLarge(b *testing.B) {
	compare(b, comparison{peers: cachePeers(), size: 64 << 10})
}

// BenchmarkProxied compares the cost of forwarding a request to an upstream, in the same way. The body has 2 KiB.
func BenchmarkProxied(b *testing.B) {
	compare(b, comparison{peers: proxyPeers(), size: 2 << 10, reach: 1})
}

// comparison says what is compared: servers that send a body of that size.
type comparison struct {
	peers []peer
	size  int
	reach int // requests that reach the origin, for each one sent
}

// rounds is the number of turns of each server.
const rounds = 7

// tick is the kernel's unit of a process's CPU time. A turn must take far longer.
const tick = 10 * time.Millisecond

// The figures of a turn, and their units.
const (
	cpuEach = iota
	rateOfHits
	latency50
	latency99
)

var cacheUnits = [...]string{cpuEach: "cpu-us", rateOfHits: "req/s", latency50: "p50-us", latency99: "p99-us"}

// competitor is a running server, with the results of its turns.
type competitor struct {
	peer
	server
	turns [][len(cacheUnits)]float64
	least time.Duration // CPU time of the shortest turn
}

// compare has all servers serve the same body in turns. b.N is the number of requests to each of them.
func compare(b *testing.B, what comparison) {
	b.Helper()
	origin := spawn(b, "cacheorigin").url
	systems := contenders(b, what.peers, origin)
	page := hitLoad{path: fmt.Sprintf("/%d/page", what.size), body: cachedBody(what.size)}
	each := max(b.N/rounds, connections)
	for _, c := range systems {
		page.send(b, c.url, 1) // fills the cache
		c.turn(b, origin, page, min(each, 5000), what.reach)
		c.turns, c.least = nil, 0 // discards the warm-up
	}
	b.ResetTimer()
	for range rounds {
		for _, c := range systems {
			c.turn(b, origin, page, each, what.reach)
		}
	}
	b.StopTimer()
	report(b, systems)
	if b.N > 1 { // a benchmark's log is cut after ten lines, and there is always a first run with N = 1
		b.Logf("medians of %d rounds of %d requests over %d connections\n%s", rounds, each, connections,
			hitTable(systems))
	}
}

// contenders starts every peer that is installed.
func contenders(b *testing.B, peers []peer, origin string) (out []*competitor) {
	b.Helper()
	for _, p := range peers {
		s, err := p.start(b, origin)
		if err != nil {
			b.Logf("not compared with %s: %v", p.name, err)
			continue
		}
		out = append(out, &competitor{peer: p, server: s})
	}
	return out
}

// turn sends n requests. The origin must get reach requests for each.
func (c *competitor) turn(b *testing.B, origin string, page hitLoad, n, reach int) {
	b.Helper()
	reached, used, begun := originCount(b, origin), c.cpu(b), time.Now()
	latencies := page.send(b, c.url, n)
	took, used, reached := time.Since(begun), c.cpu(b)-used, originCount(b, origin)-reached
	if b.Failed() || reached != n*reach {
		b.Fatalf("%s: of %d requests %d were answered well, and %d reached the origin", c.name, n, len(latencies),
			reached)
	}
	slices.Sort(latencies)
	c.turns = append(c.turns, [...]float64{
		cpuEach: micros(used) / float64(n), rateOfHits: float64(n) / took.Seconds(), latency50: micros(latencies[n/2]),
		latency99: micros(latencies[n*99/100]),
	})
	if len(c.turns) == 1 || used < c.least {
		c.least = used
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median returns the median of one figure over all turns.
func (c *competitor) median(figure int) float64 {
	all := make([]float64, 0, len(c.turns))
	for _, t := range c.turns {
		all = append(all, t[figure])
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// report reports the medians of each server, and the CPU time of the first, Millrace, relative to each other one.
func report(b *testing.B, systems []*competitor) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // the time of all servers together is meaningless
	for i, c := range systems {
		for figure, unit := range cacheUnits {
			b.ReportMetric(c.median(figure), c.name+"-"+unit)
		}
		if cpu := c.median(cpuEach); i > 0 && cpu > 0 {
			b.ReportMetric(systems[0].median(cpuEach)/cpu, "x-"+c.name+"-cpu")
		}
	}
}

// hitTable formats the report as a table.
func hitTable(systems []*competitor) string {
	var out, note strings.Builder
	fmt.Fprintf(&out, "%-10s", "")
	for _, unit := range cacheUnits {
		fmt.Fprintf(&out, "%10s", unit)
	}
	fmt.Fprintf(&out, "%16s\n", "millrace's cpu")
	for _, c := range systems {
		fmt.Fprintf(&out, "%-10s", c.name)
		for figure := range cacheUnits {
			fmt.Fprintf(&out, "%10.1f", c.median(figure))
		}
		fmt.Fprintf(&out, "%15.2fx\n", systems[0].median(cpuEach)/c.median(cpuEach))
		if c.least < 20*tick {
			fmt.Fprintf(&note, "%s used only %s in a turn, told in ticks of %s: take a larger -benchtime\n", c.name,
				c.least, tick)
		}
	}
	return strings.TrimSuffix(out.String()+note.String(), "\n")
}

// originCount returns how many requests the origin has answered.
func originCount(tb testing.TB, origin string) int {
	tb.Helper()
	resp, err := http.Get(origin + "/count")
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
