package limit_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// The clocks of the majority count, and a node that has a time keeps it.
func TestMajorityOfClocksCounts(t *testing.T) {
	t.Parallel()
	type (
		R = limit.Reading
		F = limit.Comparison
	)
	const h, ms = time.Hour, time.Millisecond
	for _, c := range []struct {
		what   string
		own    R
		others []R
		nodes  int
		alone  bool
		want   F
	}{
		{"the first of three waits for the others", R{}, nil, 3, false, F{Unanimous: true}},
		{"alone it takes its own time", R{}, nil, 3, true, F{Epoch: 1, Unanimous: true}},
		{"a node that is alone for ever", R{}, nil, 1, true, F{Epoch: 1, Majority: true, Unanimous: true}},
		{
			"three begin together",
			R{},
			[]R{{Wall: 10 * ms}, {Wall: 20 * ms}},
			3, true,
			F{Epoch: 1, Jump: 10 * ms, Wall: 10 * ms, Majority: true, Unanimous: true},
		},
		{
			"its clock is wrong",
			R{},
			[]R{{Wall: -h}, {Wall: -h + ms}},
			3, true,
			F{Epoch: 1, Jump: -h, Wall: -h, Majority: true},
		},
		{"another's is", R{}, []R{{Wall: h}, {Wall: ms}}, 3, true, F{Epoch: 1, Majority: true}},
		{"of two that differ the earlier counts", R{}, []R{{Wall: -h}}, 2, true, F{Epoch: 1, Jump: -h, Wall: -h}},
		{
			"it joins others, whatever its clock says",
			R{},
			[]R{{Time: -h, Wall: -h, Epoch: 3}, {Time: -h + ms, Wall: -h, Epoch: 3}},
			3, false,
			F{Epoch: 3, Jump: -h, Wall: -h, Majority: true},
		},
		{
			"it joins one that has begun alone",
			R{},
			[]R{{Time: -h, Wall: -h, Epoch: 1}, {}},
			3, false,
			F{Epoch: 1, Jump: -h, Majority: true},
		},
		{
			"all is well",
			R{Epoch: 1},
			[]R{{Epoch: 1, Time: 5 * ms}, {Epoch: 1, Time: 9 * ms}},
			3, true,
			F{Epoch: 1, Drift: 5 * ms, Majority: true, Unanimous: true},
		},
		{"its clock was set", R{Epoch: 1, Wall: h}, []R{{Epoch: 1}, {Epoch: 1}}, 3, true, F{Epoch: 1, Majority: true}},
		{
			"its time was wrong",
			R{Epoch: 1},
			[]R{{Epoch: 1, Time: h, Wall: h}, {Epoch: 1, Time: h, Wall: h}},
			3, true,
			F{Epoch: 1, Jump: h, Wall: h, Majority: true},
		},
		{
			"one of two began alone, and later",
			R{Epoch: 1},
			[]R{{Epoch: 1, Time: -h, Wall: -h}},
			2, true,
			F{Epoch: 1, Jump: -h, Wall: -h},
		},
		{"the other one of them", R{Epoch: 1}, []R{{Epoch: 1, Time: h, Wall: h}}, 2, true, F{Epoch: 1}},
		{
			"the others have set the time anew",
			R{Epoch: 1, Wall: h},
			[]R{{Epoch: 2, Time: h, Wall: h}, {Epoch: 1, Wall: h}},
			3, true,
			F{Epoch: 2, Jump: h, Wall: h, Majority: true, Unanimous: true},
		},
		{"it hears only one of four", R{Epoch: 1}, []R{{Epoch: 1, Time: ms}}, 5, true, F{Epoch: 1, Unanimous: true}},
	} {
		if got := limit.CompareReadings(c.own, c.others, c.nodes, c.alone); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.what, got, c.want)
		}
	}
}

// setClock is a node's clock that the test sets.
type setClock struct{ ahead atomic.Int64 }

func (c *setClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

func (c *setClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// clockLimits are limits of 50 in 15 minutes, of all kinds that count by time.
func clockLimits() map[string]node.Limit {
	return map[string]node.Limit{
		"first": rule("50/15m"), "clock": rule("50/15m", func(l *node.Limit) { l.Align = node.AlignClock }),
		"sliding": rule("50/15m", algorithm(node.AlgorithmSliding)),
		"bucket":  rule("50/15m", algorithm(node.AlgorithmBucket)),
	}
}

// The clock of a node that is alone is set forward by an hour, and back. Its clients get no more than before and don't
// wait longer, and Conditions reports it.
func TestSettingTheClockAloneChangesNothing(t *testing.T) {
	t.Parallel()
	for name, lim := range clockLimits() {
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			t.Run(fmt.Sprint(name, " ", by), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { aloneClockSet(t, lim, by) })
			})
		}
	}
}

func aloneClockSet(t *testing.T, lim node.Limit, by time.Duration) {
	t.Helper()
	var c setClock
	ls := flatOn(t, []limit.ModelStore{newFlatStore()}, map[string]node.Limit{"r": lim}, func(cfg *limit.Config) {
		cfg.Clock = c.now
	})
	defer closeAll(t, ls)
	after(2 * time.Minute) // the node isn't young any more
	if got := spend(t, ls[0], "client", 60); got != 50 {
		t.Fatalf("%d passed of 50", got)
	}
	c.set(by)
	after(time.Minute)
	if got := spend(t, ls[0], "client", 60); got > 5 { // what a bucket gets in the meantime
		t.Errorf("%d more passed when the clock was set", got)
	}
	if all := strings.Join(ls[0].Conditions(), "\n"); !strings.Contains(all, "this node's clock was set") {
		t.Errorf("the operator hears of %q", all)
	}
	c.set(0)
	after(16 * time.Minute) // and a span of a sliding window
	if got := spend(t, ls[0], "client", 60); got < 45 {
		t.Errorf("%d passed in the next window", got)
	}
	if all := ls[0].Conditions(); len(all) > 0 {
		t.Errorf("the operator hears of %q", all)
	}
}

// A clock that is set and stays so is followed after an hour.
func TestClockThatStaysSetIsFollowed(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c setClock
				ls := flatOn(t, []limit.ModelStore{newFlatStore()}, map[string]node.Limit{"r": rule("50/15m")},
					func(cfg *limit.Config) {
						cfg.Clock = c.now
					})
				defer closeAll(t, ls)
				after(2 * time.Minute)
				c.set(by)
				off := func() time.Duration { return ls[0].Time().Sub(c.now()).Abs() }
				after(59 * time.Minute)
				if off() < time.Hour-time.Second {
					t.Errorf("after an hour less a minute the time is %s off", off())
				}
				after(2 * time.Minute)
				if off() > time.Second {
					t.Errorf("after an hour and a minute the time is %s off", off())
				}
				if got := spend(t, ls[0], "client", 60); got != 50 {
					t.Errorf("%d passed of 50", got)
				}
			})
		})
	}
}

// A node starts again with its clock set back by an hour, so that its records are from the future. Its clients keep
// what they had spent, and wait no longer than a window.
func TestStartWithClockSetBackKeepsWhatWasSpent(t *testing.T) {
	t.Parallel()
	for name, lim := range clockLimits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFlatStore()
				start := func(c *setClock) []*limit.Limiter {
					return flatOn(t, []limit.ModelStore{store}, map[string]node.Limit{"r": lim},
						func(cfg *limit.Config) {
							cfg.Clock = c.now
						})
				}
				var before, now setClock
				before.set(time.Hour)
				ls := start(&before)
				got := spend(t, ls[0], "client", 30)
				closeAll(t, ls)
				ls = start(&now)
				defer closeAll(t, ls)
				if got += spend(t, ls[0], "client", 60); got > 50 {
					t.Errorf("%d passed of 50", got)
				}
				after(17 * time.Minute)
				if got := spend(t, ls[0], "client", 60); got < 45 {
					t.Errorf("%d passed in the next window", got)
				}
			})
		})
	}
}

// The clock of one of three nodes is off by an hour, or is set by an hour while the node runs. Together the nodes admit
// what the limit allows.
func TestOneWrongClockOfThreeChangesNothing(t *testing.T) { // not parallel: three servers need the machine
	servers := natsservertest.StartThree(t)
	var clocks [3]setClock
	clocks[1].set(time.Hour)
	var yields atomic.Int64
	var ls []*limit.Limiter
	for i, s := range servers {
		ls = append(ls, open(t, s, fmt.Sprint("n", i+1), clockLimits(), func(c *limit.Config) {
			c.Replicas, c.Nodes, c.Slots, c.Clock = 3, func() int { return 3 }, 3, clocks[i].now
			if i == 1 {
				c.Yield = func() { yields.Add(1) }
			}
		}))
	}
	exactly := func(round string) {
		t.Helper()
		for name := range clockLimits() {
			for try := 0; ; try++ { // if the store doesn't answer in time, permits are lost, and the run shows nothing
				got, certain := passes(t, ls, name, fmt.Sprint(round, try), 400)
				if got > 52 || (got > 50 && name != "bucket") { // a bucket gets one every 18 s
					t.Errorf("%s, %s: %d passed of 50", round, name, got)
				}
				if certain && got >= 47 || try == 10 { // a sliding window or a bucket may keep some
					break
				}
			}
		}
	}
	exactly("one is ahead")
	says := func(words string) {
		t.Helper()
		nodetest.Eventually(t, "the node with the wrong clock says so", func() bool {
			return strings.Contains(strings.Join(ls[1].Conditions(), "\n"), words)
		})
	}
	says("this node's clock is 1h0m0s ahead of most nodes' clocks")
	nodetest.Eventually(t, "its server is told not to lead", func() bool { return yields.Load() > 0 })
	clocks[1].set(-time.Hour)
	says("this node's clock is 1h0m0s behind most nodes' clocks")
	exactly("it was set back")
	for _, i := range []int{0, 2} {
		if c := ls[i].Conditions(); len(c) > 0 {
			t.Errorf("n%d, whose clock is right, says %q", i+1, c)
		}
	}
}
