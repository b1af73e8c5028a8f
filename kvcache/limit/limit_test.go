package limit_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
)

// Exactly as many requests as the limit are allowed, whichever nodes they come to.
func TestExactlyTheLimitIsAllowed(t *testing.T) {
	limits := map[string]node.Limit{
		"small": rule("5/1h"), "hundred": rule("100/15m"), "large": rule("10000/1h"), "day": rule("100/day"),
		"clock": rule("100/1h", func(l *node.Limit) { l.Align = node.AlignClock }),
		"zero":  rule("0/1h"),
	}
	want := map[string]int{"small": 5, "hundred": 100, "large": 10_000, "day": 100, "clock": 100, "zero": 0}
	alone := []*limit.Limiter{open(t, natsservertest.Start(t), "n1", limits)}
	for where, ls := range map[string][]*limit.Limiter{"alone": alone, "three": three(t, limits)} {
		for name, n := range want {
			t.Run(where+"/"+name, func(t *testing.T) {
				before := operations(ls)
				begun := time.Now()
				certain := false
				for try := 0; !certain; try++ { // a slow store loses permits: then the try shows nothing
					var got int
					if got, certain = passes(t, ls, name, fmt.Sprint("client ", try), 3*n+300); got > n ||
						(certain && got != n) {
						t.Errorf("%d passed, want %d", got, n)
					}
					if try == 10 {
						t.Fatal("the store never answers in time")
					}
				}
				for _, l := range ls {
					t.Logf("%+v", l.Stats())
				}
				t.Logf("%d requests in %s, %.4f operations each", 3*n+300, time.Since(begun).Round(time.Millisecond),
					float64(operations(ls)-before)/float64(3*n+300))
			})
		}
	}
}

func operations(ls []*limit.Limiter) (n uint64) {
	for _, l := range ls {
		s := l.Stats()
		n += s.Reads + s.Writes + s.Conflicts
	}
	return n
}

// On a node that is alone, each request lowers Remaining by one.
func TestRemainingCountsDown(t *testing.T) {
	l := open(t, natsservertest.Start(t), "n1",
		map[string]node.Limit{"r": rule("50/1h"), "b": rule("50/1h", func(l *node.Limit) {
			l.Algorithm = node.AlgorithmBucket
		})})
	for _, name := range []string{"r", "b"} {
		r := l.Rule(name)
		for want := range 50 {
			d, err := r.Take(t.Context(), r.Key([]byte("c")), 1)
			if err != nil || !d.Allowed || int(d.Remaining) != 49-want {
				t.Fatalf("%s: request %d got %+v, %v", name, want, d, err)
			}
		}
		if d, err := r.Take(t.Context(), r.Key([]byte("c")), 1); err != nil || d.Allowed {
			t.Errorf("%s: one too many got %+v, %v", name, d, err)
		}
	}
}

// Many new keys at once share disk syncs.
func BenchmarkNewKeys(b *testing.B) {
	l := open(b, natsservertest.Start(b), "n1", map[string]node.Limit{"r": rule("100/15m")})
	r := l.Rule("r")
	var next atomic.Int64
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if d, err := r.Take(context.Background(), r.Key(fmt.Appendf(nil, "client %d", next.Add(1))),
				1); err != nil || !d.Allowed {
				b.Errorf("got %+v, %v", d, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

// Spending a held permit allocates nothing.
func BenchmarkTry(b *testing.B) {
	l := open(b, natsservertest.Start(b), "n1", map[string]node.Limit{"r": rule("2000000000/1h")})
	r := l.Rule("r")
	key := r.Key([]byte("client"))
	if _, err := r.Take(b.Context(), key, 1); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if d, ok := r.Try(time.Now(), r.Key([]byte("192.0.2.1")), 1); ok == d.Allowed && ok {
			b.Fatal("another client has no permit")
		}
		if _, ok := r.Try(time.Now(), key, 1); !ok {
			b.Fatal("no permit")
		}
	}
}
