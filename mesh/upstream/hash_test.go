package upstream_test

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/mesh"
	"millrace/node"
)

// indexedTargets answer with their index, to show which one a request went to.
func indexedTargets(tb testing.TB, n int) (urls []string) {
	tb.Helper()
	for i := range n {
		urls = append(urls, startServer(tb, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) }).URL)
	}
	return urls
}

// Equal keys go to the same target on every node. Keys spread evenly, and when a target leaves only its keys move.
func TestHash(t *testing.T) {
	urls := indexedTargets(t, 4)
	for text, field := range map[string]func(i int) mesh.Field{
		"hash:header:X-User": func(i int) mesh.Field {
			return mesh.Field{Name: "X-User", Value: fmt.Sprint("user", i)}
		},
		"hash:cookie:session": func(i int) mesh.Field {
			return mesh.Field{Name: "Cookie", Value: fmt.Sprintf("a=b; session=s%d; c=d", i)}
		},
		"hash:ip": func(i int) mesh.Field {
			return mesh.Field{Name: "X-Forwarded-For", Value: fmt.Sprintf("10.1.%d.%d, 192.0.2.1", i/256, i%256)}
		},
		"hash:path": func(i int) mesh.Field { return mesh.Field{Name: "X-Path", Value: fmt.Sprint("/p", i)} },
	} {
		t.Run(text, func(t *testing.T) {
			cfg := config(urls...)
			if err := cfg.Balance.UnmarshalText([]byte(text)); err != nil {
				t.Fatal(err)
			}
			const keys = 2000
			where := func(r *rig) (out []string) {
				for i := range keys {
					f := field(i)
					target := "/"
					if f.Name == "X-Path" {
						target = f.Value + "?q=" + strconv.Itoa(len(out))
					}
					resp, err := r.do(t, "GET", target, "", f)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, string(resp.Body))
				}
				return out
			}
			one, other := start(t, cfg), start(t, cfg)
			first, count := where(one), map[string]int{}
			for i, again := range where(other) {
				count[again]++
				if again != first[i] {
					t.Fatalf("key %d went to target %s on one node and to %s on another", i, first[i], again)
				}
			}
			for name, n := range count {
				if math.Abs(float64(n)-keys/4) > keys/16 {
					t.Errorf("target %s has %d of %d keys", name, n, keys)
				}
			}
			cfg.Targets = cfg.Targets[:3]
			if err := one.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
				t.Fatal(err)
			}
			for i, now := range where(one) {
				if first[i] != "3" && now != first[i] {
					t.Fatalf("key %d moved from target %s to %s, though that had nothing to do with it", i, first[i],
						now)
				}
			}
		})
	}
}

// A key that everybody asks for doesn't overload its target: what exceeds its share by a quarter goes elsewhere.
func TestHashBounded(t *testing.T) {
	const clients = 40
	var now, most [4]atomic.Int64
	enough := make(chan struct{})
	var arrived atomic.Int64
	var urls []string
	for i := range now {
		urls = append(urls, startServer(t, func(http.ResponseWriter, *http.Request) {
			n := now[i].Add(1)
			raise(&most[i], n)
			if arrived.Add(1) == clients {
				close(enough)
			}
			<-enough
			now[i].Add(-1)
		}).URL)
	}
	cfg := config(urls...)
	cfg.Balance = node.Balance{Hash: node.HashPath}
	r := start(t, cfg)
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			if resp, err := r.do(t, "GET", "/hot", ""); err != nil || resp.Status != 200 {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
	wait.Wait()
	t.Logf("at most %d, %d, %d, %d at once", most[0].Load(), most[1].Load(), most[2].Load(), most[3].Load())
	for i := range most {
		if n := most[i].Load(); n > clients*5/16+2 { // some are counted while others begin
			t.Errorf("target %d had %d of %d requests at once, want at most a quarter above a quarter of them", i, n,
				clients)
		}
	}
}

// The few concurrent requests of one browser go to the same target.
func TestHashKeepsFewRequestsTogether(t *testing.T) {
	var urls []string
	var gots []*atomic.Int64
	for range 4 {
		url, got := slowTarget(t)
		urls, gots = append(urls, url), append(gots, got)
	}
	cfg := config(urls...)
	cfg.Balance = node.Balance{Hash: node.HashCookie, Name: "s"}
	r := start(t, cfg)
	runClients(6, 5, func() {
		if resp, err := r.do(t, "GET", "/", "", mesh.Field{Name: "Cookie", Value: "s=abc"}); err != nil ||
			resp.Status != 200 {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
	used := 0
	for _, got := range gots {
		if got.Load() > 0 {
			used++
		}
	}
	if used != 1 {
		t.Errorf("requests with one key went to %d targets", used)
	}
}
