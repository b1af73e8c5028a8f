package limit_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
)

// queued makes requests of a limit queue.
func queued(maxWait time.Duration, maxQueue int) func(*node.Limit) {
	return func(l *node.Limit) {
		l.Mode, l.MaxWait, l.MaxQueue = node.LimitModeQueue, node.Duration(maxWait), maxQueue
	}
}

func burst(n int) func(*node.Limit) {
	return func(l *node.Limit) { l.Algorithm, l.Burst = node.AlgorithmBucket, n }
}

// outcome is the result of a request, and when it came.
type outcome struct {
	n           int
	begun, over time.Duration // since the first request
	decision    limit.Decision
	err         error
}

func (o outcome) waited() time.Duration { return o.over - o.begun }

// crowd sends requests of one key.
type crowd struct {
	rule  *limit.Rule
	key   limit.Key
	begun time.Time

	mu       sync.Mutex // guards outcomes
	outcomes []outcome
	running  sync.WaitGroup
}

func newCrowd(r *limit.Rule) *crowd {
	return &crowd{rule: r, key: r.Key([]byte("client")), begun: time.Now()}
}

// send starts request n.
func (c *crowd) send(ctx context.Context, n int) {
	c.running.Go(func() {
		o := outcome{n: n, begun: time.Since(c.begun)}
		o.decision, o.err = c.rule.Take(ctx, c.key, 1)
		o.over = time.Since(c.begun)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.outcomes = append(c.outcomes, o)
	})
}

// flood sends rate requests a second for that long.
func (c *crowd) flood(ctx context.Context, rate int, long time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for sent := 0; time.Since(c.begun) < long; <-tick.C {
		for ; sent < int(time.Since(c.begun).Seconds()*float64(rate)); sent++ {
			c.send(ctx, sent)
		}
	}
}

// all waits for all requests and returns those that passed and those that didn't, in the order in which they ended.
func (c *crowd) all(tb testing.TB) (passed, refused []outcome) {
	tb.Helper()
	c.running.Wait()
	if n, lines := c.rule.Waiting(); n != 0 || lines != 0 {
		tb.Errorf("%s: %d requests in %d lines are remembered when all are over", c.rule.Name, n, lines)
	}
	for _, o := range c.outcomes {
		if o.decision.Allowed {
			passed = append(passed, o)
		} else {
			refused = append(refused, o)
		}
	}
	return passed, refused
}

// Under three times the allowed rate, exactly the allowed rate passes, however small the bucket is. TestQueueKeepsOrder
// checks the same without delays. What a busy machine loses while everything stops is lost, so the rate is that of the
// best half second. If a plain timer loop is off by 5 % all the time, or the disk takes 100 ms to write, the test only
// checks that no more passes.
func TestQueueKeepsRate(t *testing.T) { // not parallel: it measures time
	const long, best = 2900 * time.Millisecond, 500 * time.Millisecond
	limits := map[string]node.Limit{
		"bucket-1":  rule("200/1s", queued(500*time.Millisecond, 1000), burst(1)),
		"bucket-20": rule("200/1s", queued(500*time.Millisecond, 1000), burst(20)),
		"first":     rule("50/500ms", queued(time.Second, 1000)),
		"clock":     rule("50/500ms", queued(time.Second, 1000), func(l *node.Limit) { l.Align = node.AlignClock }),
	}
	l := open(t, natsservertest.Start(t), "n1", limits)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pace, slow := pacer(ctx), slowest(ctx, l)
	crowds := map[string]*crowd{}
	var running sync.WaitGroup
	for name, limit := range limits {
		c := newCrowd(l.Rule(name))
		crowds[name] = c
		running.Go(func() { c.flood(t.Context(), 3*limit.Max*int(time.Second/limit.Window.Length), long) })
	}
	running.Wait()
	cancel()
	busy := max(quickest(pace(), 100)-best, 0) // how late the machine makes a plain timer loop
	slowest := slow()
	calm := busy < best/20 && slowest < 100*time.Millisecond
	t.Logf("a plain pacer is off by %s, the slowest write took %s", busy, slowest)
	for name, c := range crowds {
		passed, refused := c.all(t)
		// Requests that pass while others still come: the queue is never empty then.
		n := len(slices.DeleteFunc(slices.Clone(passed), func(o outcome) bool { return o.over > long }))
		away := 0
		for _, o := range refused {
			if o.err != nil && !errors.Is(o.err, limit.ErrAway) {
				t.Errorf("%s: a request got %v", name, o.err)
			} else if o.err != nil {
				away++
			}
		}
		t.Logf("%s: %d passed in %s and %d afterwards, %d were refused, %d because the store didn't answer", name, n,
			long, len(passed)-n, len(refused), away)
		most := 0
		switch name {
		case "bucket-1", "bucket-20":
			most = limits[name].Burst + int(long.Seconds()*200) + 1
			if took := quickest(passed[min(limits[name].Burst, len(passed)):], 100); took > best+best/100+4*busy &&
				calm {
				t.Errorf("%s: 100 took %s at best, want %s; a plain pacer takes %s more", name, took, best, busy)
			}
		case "first": // windows begin at 0, 0.5, ... 2.5 s, and a little later
			most = 6 * 50
		case "clock":
			most = 7 * 50
			checkWindows(t, c, passed, long, calm)
		}
		if n > most || (n < most/2 && calm) {
			t.Errorf("%s: %d passed, want %d", name, n, most)
		}
	}
}

// pacer ticks every 5 ms, or later if it is woken late, until ctx ends, and returns the times.
func pacer(ctx context.Context) func() []outcome {
	var out []outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		begun := time.Now()
		for due := time.Duration(0); ctx.Err() == nil; due = max(due+5*time.Millisecond, time.Since(begun)) {
			after(due - time.Since(begun))
			out = append(out, outcome{over: time.Since(begun)})
		}
	}()
	return func() []outcome { <-done; return out }
}

// slowest writes records until ctx ends, and returns how long the slowest write took.
func slowest(ctx context.Context, l *limit.Limiter) func() time.Duration {
	var most time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			begun := time.Now()
			_, err := l.Put(keyOf(i), []byte("probe"), 0, time.Minute)
			if most = max(most, time.Since(begun)); err != nil {
				most = max(most, time.Second)
			}
			after(20 * time.Millisecond)
		}
	}()
	return func() time.Duration { <-done; return most }
}

// quickest returns the shortest time in which n requests passed.
func quickest(passed []outcome, n int) time.Duration {
	took := time.Hour
	for i := range max(len(passed)-n, 0) {
		took = min(took, passed[i+n].over-passed[i].over)
	}
	return took
}

// checkWindows checks that 50 requests passed in each whole window on the clock, and no more.
func checkWindows(tb testing.TB, c *crowd, passed []outcome, long time.Duration, all bool) {
	tb.Helper()
	const window = 500 * time.Millisecond
	count := map[int64]int{}
	for _, o := range passed {
		count[c.begun.Add(o.over).UnixNano()/int64(window)]++
	}
	first, last := c.begun.UnixNano()/int64(window), c.begun.Add(long).UnixNano()/int64(window)
	for w := first + 1; w < last; w++ {
		if count[w] > 50 || (all && count[w] < 50) {
			tb.Errorf("clock: %d passed in window %d, want 50", count[w], w-first)
		}
	}
}

// Without delays, no request waits longer than the maximum, requests that can't pass in time are refused at once, and
// the order is kept.
func TestQueueKeepsOrder(t *testing.T) {
	t.Parallel()
	const long = 3 * time.Second
	limits := map[string]node.Limit{
		"bucket": rule("200/1s", queued(500*time.Millisecond, 1000), burst(1)),
		"deep":   rule("200/1s", queued(500*time.Millisecond, 1000), burst(50)),
		"first":  rule("50/500ms", queued(time.Second, 1000)),
		"clock":  rule("50/500ms", queued(time.Second, 1000), func(l *node.Limit) { l.Align = node.AlignClock }),
		"sliding": rule("60/600ms", queued(time.Second, 1000), func(l *node.Limit) {
			l.Algorithm = node.AlgorithmSliding
		}),
	}
	rate := map[string]int{"bucket": 601, "deep": 650, "first": 300, "clock": 350, "sliding": 300}
	for name, lim := range limits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ls := flat(t, 1, newFlatStore(), limits)
				defer closeAll(t, ls)
				c := newCrowd(ls[0].Rule(name))
				c.flood(t.Context(), 601, long)
				passed, refused := c.all(t)
				// Nobody can tell the order of requests that end at the same moment.
				slices.SortStableFunc(passed, func(a, b outcome) int {
					return cmp.Or(cmp.Compare(a.over, b.over), cmp.Compare(a.n, b.n))
				})
				for i, o := range passed {
					if i > 0 && o.n < passed[i-1].n {
						t.Errorf("request %d passed after %d", o.n, passed[i-1].n)
					}
					if o.waited() > lim.MaxWait.Std() {
						t.Errorf("request %d waited for %s", o.n, o.waited())
					}
				}
				late := 0
				for _, o := range refused {
					if o.err != nil || o.waited() > lim.MaxWait.Std() {
						t.Errorf("request %d got %v after %s", o.n, o.err, o.waited())
					}
					if o.waited() > 0 {
						late++
					}
				}
				n := len(slices.DeleteFunc(slices.Clone(passed), func(o outcome) bool { return o.over > long }))
				t.Logf("%d passed in %s, %d in all, %d were refused, %d of them not at once", n, long, len(passed),
					len(refused), late)
				if want := rate[name]; n < want*99/100 || n > want {
					t.Errorf("%d passed, want %d", n, want)
				}
				// Permits of a sliding window come back gradually.
				if most := max(1, len(refused)/50); late > most && name != "sliding" {
					t.Errorf("%d of %d requests waited and were refused nevertheless", late, len(refused))
				}
			})
		})
	}
}

// A queue holds as many requests as allowed, and no more.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": rule("1/1s", queued(30*time.Second, 5))})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		c := newCrowd(r)
		for n := range 9 {
			c.send(t.Context(), n)
			synctest.Wait()
		}
		if n, lines := r.Waiting(); n != 5 || lines != 1 {
			t.Errorf("%d wait in %d lines, want 5 in 1", n, lines)
		}
		if d, err := r.Take(t.Context(), r.Key([]byte("another")), 1); err != nil || !d.Allowed {
			t.Errorf("another client got %+v, %v", d, err)
		}
		passed, refused := c.all(t)
		if len(passed) != 6 || len(refused) != 3 {
			t.Errorf("%d passed and %d were refused, want 6 and 3", len(passed), len(refused))
		}
		for _, o := range refused {
			if !errors.Is(o.err, limit.ErrQueueFull) || o.waited() != 0 || o.decision.Reset <= 0 {
				t.Errorf("request %d got %+v, %v after %s", o.n, o.decision, o.err, o.waited())
			}
		}
	})
}

// A client that disconnects leaves the queue at once, and those behind it move up. The next one gets the position taken
// for the first.
func TestQueueMovesUpWhenClientsLeave(t *testing.T) {
	t.Parallel()
	for name, lim := range map[string]node.Limit{
		"bucket": rule("1/1s", queued(30*time.Second, 10), burst(1)),
		"first":  rule("1/1s", queued(30*time.Second, 10)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": lim})
				defer closeAll(t, ls)
				c := newCrowd(ls[0].Rule("r"))
				cancels := make([]context.CancelFunc, 6)
				for n := range cancels {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					cancels[n] = cancel
					c.send(ctx, n)
					synctest.Wait()
				}
				after(500 * time.Millisecond)
				cancels[1]() // the first of the queue
				cancels[3]() // in the middle
				synctest.Wait()
				if n, _ := c.rule.Waiting(); n != 3 {
					t.Errorf("%d wait, want 3", n)
				}
				passed, refused := c.all(t)
				var order []int
				for i, o := range passed {
					order = append(order, o.n)
					if want := time.Duration(i) * time.Second; (o.over - want).Abs() > 10*time.Millisecond {
						t.Errorf("request %d passed after %s, want %s", o.n, o.over, want)
					}
				}
				if !slices.Equal(order, []int{0, 2, 4, 5}) {
					t.Errorf("%v passed, want 0, 2, 4, 5", order)
				}
				for _, o := range refused {
					if !errors.Is(o.err, context.Canceled) || o.over != 500*time.Millisecond {
						t.Errorf("request %d got %v after %s", o.n, o.err, o.over)
					}
				}
			})
		})
	}
}

// A request doesn't wait for a permit that comes too late.
func TestQueueRefusesWhatComesTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{
			"window": rule("1/10s", queued(2*time.Second, 10)),
			"bucket": rule("6/1m", queued(2*time.Second, 10), burst(1)),
			"line":   rule("1/1s", queued(2500*time.Millisecond, 10)),
		})
		defer closeAll(t, ls)
		for _, name := range []string{"window", "bucket"} {
			c := newCrowd(ls[0].Rule(name))
			c.send(t.Context(), 0)
			synctest.Wait()
			c.send(t.Context(), 1)
			passed, refused := c.all(t)
			if len(passed) != 1 || len(refused) != 1 || refused[0].waited() != 0 || refused[0].err != nil {
				t.Errorf("%s: %+v passed, %+v were refused", name, passed, refused)
			}
		}
		c := newCrowd(ls[0].Rule("line"))
		for n := range 6 {
			c.send(t.Context(), n)
			synctest.Wait()
		}
		passed, refused := c.all(t)
		if len(passed) != 3 || len(refused) != 3 {
			t.Errorf("%d passed and %d were refused, want 3 and 3", len(passed), len(refused))
		}
		for _, o := range refused {
			if o.err != nil || o.waited() != 0 || o.decision.Reset < 2500*time.Millisecond {
				t.Errorf("request %d got %+v, %v after %s", o.n, o.decision, o.err, o.waited())
			}
		}
	})
}

// While the store is away, no request waits longer than for its turn.
func TestQueueBoundsWaitWhenStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFlatStore()
		ls := flat(t, 1, s, map[string]node.Limit{"r": rule("1/1s", queued(3*time.Second, 10))})
		defer closeAll(t, ls)
		c := newCrowd(ls[0].Rule("r"))
		for n := range 4 {
			c.send(t.Context(), n)
			synctest.Wait()
		}
		s.setHangs(true)
		passed, refused := c.all(t)
		if len(passed) != 1 || len(refused) != 3 {
			t.Errorf("%d passed and %d were refused, want 1 and 3", len(passed), len(refused))
		}
		for _, o := range refused {
			if o.waited() > 3*time.Second || (o.err != nil && !errors.Is(o.err, limit.ErrAway)) {
				t.Errorf("request %d got %v after %s", o.n, o.err, o.waited())
			}
		}
	})
}

// Requests in flight queue too, also for less than a second, and get freed slots at once.
func TestQueuedInflightRequestsGetFreedSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": inFlight(2, queued(250*time.Millisecond, 10))})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		key := r.Key([]byte("client"))
		var g gauge
		var order []int
		var refused, running sync.WaitGroup
		var mu sync.Mutex
		for n := range 8 {
			running.Go(func() {
				begun := time.Now()
				d, err := r.Take(t.Context(), key, 1)
				waited := time.Since(begun)
				if n >= 6 { // 250 ms suffice for two, and two, and two
					if d.Allowed || err != nil || waited != 250*time.Millisecond {
						t.Errorf("request %d got %+v, %v after %s", n, d, err, waited)
					}
					return
				}
				if want := time.Duration(n/2) * 100 * time.Millisecond; !d.Allowed || err != nil || waited != want {
					t.Errorf("request %d got %+v, %v after %s, want %s", n, d, err, waited, want)
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				g.enter()
				after(100 * time.Millisecond)
				g.leave()
				r.Leave(key, 1)
			})
			synctest.Wait()
		}
		refused.Wait()
		running.Wait()
		if !slices.IsSorted(order) || g.most.Load() != 2 {
			t.Errorf("%v passed, %d at once", order, g.most.Load())
		}
		if n, lines := r.Waiting(); n != 0 || lines != 0 {
			t.Errorf("%d requests in %d lines are remembered", n, lines)
		}
	})
}

// New queue settings count from then on, and requests that wait already are served.
func TestQueueFollowsNewRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": rule("1/1s")})
		defer closeAll(t, ls)
		c := newCrowd(ls[0].Rule("r"))
		send := func(from, to int) {
			for n := from; n <= to; n++ {
				c.send(t.Context(), n)
				synctest.Wait()
			}
		}
		send(0, 0)
		ls[0].SetRules(map[string]node.Limit{"r": rule("1/1s", queued(10*time.Second, 2))})
		c.rule = ls[0].Rule("r")
		send(1, 3) // the last one finds the queue full
		ls[0].SetRules(map[string]node.Limit{"r": rule("1/1s", queued(10*time.Second, 3))})
		c.rule = ls[0].Rule("r")
		send(4, 7) // the same
		passed, refused := c.all(t)
		if len(passed) != 6 || len(refused) != 2 || refused[0].n != 3 || refused[1].n != 7 {
			t.Errorf("%+v passed and %+v were refused, want all but 3 and 7", passed, refused)
		}
		if last := passed[len(passed)-1].over; last > 5*time.Second+10*time.Millisecond {
			t.Errorf("the last passed after %s, want 5 s", last)
		}
	})
}

// Each of many keys has its own queue, which is dropped when it is empty.
func TestQueuesOfManyKeysAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": rule("1/1s", queued(3*time.Second, 10))})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		var passed atomic.Int64
		var running sync.WaitGroup
		for i := range 3000 {
			running.Go(func() {
				d, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "client %d", i%1000)), 1)
				if err != nil {
					t.Error(err)
				}
				if d.Allowed {
					passed.Add(1)
				}
			})
		}
		running.Wait()
		if n, lines := r.Waiting(); passed.Load() != 3000 || n != 0 || lines != 0 {
			t.Errorf("%d passed, want 3000; %d requests in %d lines are remembered", passed.Load(), n, lines)
		}
	})
}
