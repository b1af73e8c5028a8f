package limit_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"millrace/node"
)

// plan is what a seed decides.
type plan struct {
	seed          uint64
	kind          string
	limit         node.Limit
	start         time.Time
	lasts         time.Duration
	nodes         int
	shares        int
	keys          int // that a node remembers; 0 for the default
	clients       int
	workers       int
	late          time.Duration // how old a request's time may be when it is decided from memory
	pause         time.Duration // of a worker between two requests, on average
	costs         int           // of a request, at most
	refunds       float64       // share of the admitted requests that are refunded
	skew          time.Duration // clocks are off by up to this
	noClocks      bool          // nodes never learn each other's clocks
	wrongClocks   int           // number of nodes whose clocks are off by hours, and are set while they run
	faults        faults
	calm          bool // nothing fails, and there is enough demand
	damage        bool // records are damaged, too
	disturbances  int  // how often something other than messages fails, on average
	movesTogether bool // all requests come to one node for a while, then to another
	order         *rand.Rand
}

// The kinds of limits, which seeds use in turn.
var kinds = []string{"first", "clock", "shares", "day", "month", "sliding", "bucket", "concurrent"}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := &plan{
		seed: seed, kind: kinds[seed%uint64(len(kinds))], order: r,
		start: time.Date(2026, 3, 1+r.IntN(9), r.IntN(24), 0, r.IntN(60), r.IntN(1e9), time.UTC),
		nodes: 2 + r.IntN(4), clients: 1 + r.IntN(2), costs: 1, calm: r.IntN(3) == 0,
	}
	p.limit.Defaults()
	p.limit.Max = one(r, 1, 2, 5, 20, 100, 300)
	p.windows()
	if p.calm {
		p.demand()
	} else {
		p.trouble()
	}
	p.costs = min(p.costs, int(p.room())) // as the configuration's check requires
	return p
}

// room returns what one request may cost.
func (p *plan) room() int64 {
	if p.limit.Burst > 0 {
		return int64(p.limit.Burst)
	}
	return int64(p.limit.Max)
}

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// windows sets the parameters of the kind.
func (p *plan) windows() {
	r, l := p.order, &p.limit
	p.skew = time.Duration(r.IntN(250)) * time.Millisecond // so that two clocks agree
	switch p.kind {
	case "first":
		l.Window.Length = one(r, 100*time.Millisecond, time.Second, 3*time.Second, 8*time.Second)
	case "clock":
		l.Window.Length, l.Align = one(r, time.Second, 3*time.Second, 7*time.Second), node.AlignClock
		l.Zone = one(r, node.Zone("UTC"), "Asia/Kolkata", "Pacific/Auckland")
	case "shares":
		p.clients = 1
		l.Window.Length, l.Align, l.StoreAway = one(r, 2*time.Second, 5*time.Second, 20*time.Second), node.AlignClock,
			node.StoreAwayShare
		p.lasts, l.Max = 80*time.Second, one(r, 5, 20, 20, 100)
	case "day", "month":
		p.calendar()
	case "sliding":
		l.Algorithm, l.Window.Length = node.AlgorithmSliding, one(r, 3*time.Second, 10*time.Second, 20*time.Second)
		// Two clocks differ by up to twice the skew, which must be less than a thirtieth of the window.
		p.skew = time.Duration(r.Int64N(int64(l.Window.Length/60) - 10))
	case "bucket":
		l.Algorithm, l.Window.Length, l.Burst = node.AlgorithmBucket,
			one(r, time.Second, 3*time.Second, 10*time.Second), one(r, 0, 1, 2, 10, 100)
		p.lasts = 20 * time.Second
	case "concurrent":
		l.Algorithm, p.lasts = node.AlgorithmConcurrent, 40*time.Second
	}
	if p.lasts == 0 {
		p.lasts = min(max(5*l.Window.Length, 2*time.Second), 50*time.Second)
	}
}

// calendar starts shortly before a window's end; some of these are when a zone's clocks change.
func (p *plan) calendar() {
	l := &p.limit
	l.Window.Calendar, l.Window.Length = node.Calendar(p.kind), 24*time.Hour
	ends := []struct {
		zone node.Zone
		end  string
	}{
		{"UTC", "2026-03-01T00:00:00Z"},
		{"Europe/Berlin", "2026-03-28T23:00:00Z"},
		{"Europe/Berlin", "2026-03-29T22:00:00Z"},
		{"America/New_York", "2026-11-02T05:00:00Z"},
		{"Africa/Cairo", "2026-04-23T22:00:00Z"},   // clocks go from midnight to 1:00
		{"America/Havana", "2026-03-08T05:00:00Z"}, // and here, west of Greenwich
		{"Asia/Kolkata", "2027-12-31T18:30:00Z"},
	}
	if p.kind == "month" {
		l.Window.Length *= 31
		ends = ends[:1]
		ends = append(ends, struct {
			zone node.Zone
			end  string
		}{"America/New_York", "2028-03-01T05:00:00Z"})
	}
	e := one(p.order, ends...)
	end, err := time.Parse(time.RFC3339, e.end)
	if err != nil {
		panic(err)
	}
	l.Zone, p.start, p.lasts = e.zone, end.Add(-15*time.Second), 30*time.Second
}

// window returns the length of the windows that the run covers in full.
func (p *plan) window() time.Duration {
	if p.limit.Window.Length == 0 {
		return p.lasts / 3
	}
	return min(p.limit.Window.Length, p.lasts/3)
}

// demand plans a run in which all permits must be spent.
func (p *plan) demand() {
	r := p.order
	p.clients, p.skew, p.limit.Max = 1, 0, min(p.limit.Max, 100)
	p.costs = one(r, 1, 3)
	p.movesTogether = r.IntN(2) == 0
	window := p.window()
	p.pause = window / 3 / time.Duration(2*p.limit.Max+10)
	switch p.kind {
	case "bucket":
		p.nodes, p.pause = one(r, 1, p.nodes), min(p.pause, 10*time.Millisecond)
	case "sliding":
		p.lasts = 4 * window
	case "shares":
		p.lasts = 5*time.Second + 4*window
	case "concurrent":
		p.lasts, p.pause = 10*time.Second, time.Second/time.Duration(4*p.limit.Max+10)
	}
	p.shares, p.workers = p.nodes, p.nodes
	if p.movesTogether {
		p.workers = 2
	}
	if p.kind == "bucket" && r.IntN(3) == 0 {
		p.limit.Mode, p.limit.MaxWait = node.LimitModeQueue, node.Duration(time.Second)
	}
	slow := p.kind == "bucket" || (p.window() >= 3*time.Second && p.kind != "sliding" && p.kind != "concurrent") ||
		p.window() >= 10*time.Second
	if slow && r.IntN(4) == 0 { // but less than a request's patience
		p.faults.delayed, p.faults.maxDelay = 1, 25*time.Millisecond
	}
}

// trouble plans a run in which things fail.
func (p *plan) trouble() {
	r := p.order
	f := &p.faults
	f.lost, f.duplicated, f.delayed, f.stale = one(r, 0, 0.01, 0.05, 0.2), one(r, 0, 0.05, 0.3), one(r, 0, 0.05, 0.3),
		one(r, 0, 0.1, 0.5)
	f.maxDelay, f.broken = one(r, 5*time.Millisecond, 100*time.Millisecond, 1500*time.Millisecond), one(r, 0, 0.01, 0.5)
	p.disturbances = one(r, 2, 10)
	if p.kind != "sliding" { // its spans allow only for the clocks' skew
		p.late = one(r, 0, 0, 300*time.Millisecond)
	}
	p.refunds, p.costs = one(r, 0, 0, 0.2), one(r, 1, 1, 3)
	p.shares = 1 + r.IntN(p.nodes)
	if p.noClocks = r.IntN(2) == 0; !p.noClocks {
		p.wrongClocks = r.IntN((p.nodes + 1) / 2)
	}
	if r.IntN(4) == 0 {
		p.keys, p.clients = 256, 3 // memory holds one of them
	}
	p.damage = r.IntN(4) == 0
	if r.IntN(6) == 0 {
		p.limit.Mode, p.limit.MaxWait, p.limit.MaxQueue = node.LimitModeQueue, node.Duration(time.Second), 3
	}
	p.workers = 2 + r.IntN(8)
	requests := 300 + r.IntN(700) // and two more for each, in bursts
	if p.kind == "shares" {
		p.workers, requests = p.workers+8, requests+1000 // many wait at nodes that are cut off
	}
	p.pause = p.lasts * time.Duration(p.workers) / time.Duration(requests)
	if p.kind != "bucket" { // so that demand is often more than the limit
		p.limit.Max = min(p.limit.Max, max(int(p.window()/p.pause)*p.workers/p.clients/2, 1))
	}
}

func (p *plan) String() string {
	return fmt.Sprintf("%s %d/%s burst %d zone %s mode %s: %d nodes, %d shares, %d clients, %d workers every %s, "+
		"costs to %d, refunds %g, skew %s, deaf %t, wild %d, damage %t, calm %t, roams %t, %+v",
		p.kind, p.limit.Max, p.limit.Window, p.limit.Burst, p.limit.Zone, p.limit.Mode, p.nodes, p.shares, p.clients,
		p.workers, p.pause, p.costs, p.refunds, p.skew,
		p.noClocks, p.wrongClocks, p.damage, p.calm, p.movesTogether, p.faults)
}
