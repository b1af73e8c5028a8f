package limit_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
)

// The model runs limiters for some virtual seconds under load. A seed draws the faults of store, network and clocks,
// and the deaths of nodes. Whatever fails, no more is admitted than the limit; and if nothing fails, no less.
// LIMIT_SEEDS sets how many seeds are run. LIMIT_SEED runs one, and with -v logs all of its messages.
func TestModel(t *testing.T) {
	t.Parallel()
	const parts = 4
	first, last := seeds(t)
	for part := range uint64(parts) {
		t.Run(fmt.Sprint("part", part), func(t *testing.T) {
			t.Parallel()
			for seed := first + part; seed <= last; seed += parts {
				run(t, newPlan(seed), false).report(t)
			}
		})
	}
}

// seeds returns the range of seeds to run.
func seeds(t *testing.T) (first, last uint64) {
	t.Helper()
	number := func(name string, otherwise uint64) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			t.Fatalf("%s is %q: write a number from 1", name, text)
		}
		return n
	}
	if one := number("LIMIT_SEED", 0); one != 0 {
		return one, one
	}
	first = number("LIMIT_SEED_FIRST", 1)
	return first, first + number("LIMIT_SEEDS", ciSeeds) - 1
}

// verbose reports whether all messages are logged.
func verbose() bool { return os.Getenv("LIMIT_SEED") != "" }

// member is one incarnation of a node.
type member struct {
	*link

	limiter *limit.Limiter
}

// skew returns how far the node's time is ahead.
func (n *member) skew() time.Duration { return time.Until(n.limiter.Time()) }

// model is a run of a plan.
type model struct {
	*plan

	store    *modelStore
	believed atomic.Int64             // how many nodes there are, as far as the nodes know
	names    [][]byte                 // of clients
	clocks   map[string]*atomic.Int64 // by node: how far its clock is ahead

	mu       sync.Mutex // guards what follows
	members  []*member
	admitted []*admission
	lines    []string
	errors   int
	requests int

	complaints []string
}

// errorLog is the log of a limiter. Errors fail the test, panics included.
type errorLog struct {
	slog.Handler

	m *model
}

func (c errorLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

func (c errorLog) Handle(_ context.Context, r slog.Record) error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	text := r.Message
	if c.m.damage && strings.HasPrefix(text, "a record of a limit is damaged") {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	c.m.complaints = append(c.m.complaints, text)
	return nil
}

// run runs a plan in virtual time. If careless is set, the store accepts stale writes.
func run(t *testing.T, p *plan, careless bool) *model {
	t.Helper()
	defer func() {
		if problem := recover(); problem != nil { // such as leaked goroutines
			t.Errorf("seed %d: %v", p.seed, problem)
			panic(problem)
		}
	}()
	m := newModel(p)
	m.store.acceptsStale.Store(careless)
	m.believed.Store(int64(p.nodes))
	synctest.Test(t, func(*testing.T) { m.play() })
	return m
}

func newModel(p *plan) *model {
	m := &model{plan: p, store: newModelStore(), clocks: map[string]*atomic.Int64{}}
	r := rand.New(rand.NewPCG(p.seed, 2))
	for i := range p.nodes {
		ahead := &atomic.Int64{}
		if p.skew > 0 {
			ahead.Store(r.Int64N(int64(2*p.skew)) - int64(p.skew))
		}
		if i < p.wrongClocks {
			ahead.Store(wrongBy(r))
		}
		m.clocks[fmt.Sprint("n", i+1)] = ahead
	}
	return m
}

// wrongBy returns how far a wrong clock is off.
func wrongBy(r *rand.Rand) int64 {
	return int64(one(r, -24*time.Hour, -time.Hour, -10*time.Second, 2*time.Second, 10*time.Minute, time.Hour,
		1000*time.Hour))
}

// play runs in a synctest bubble.
func (m *model) play() {
	p := m.plan
	<-time.After(time.Until(p.start))
	for i := range p.nodes {
		m.boot(fmt.Sprint("n", i+1))
	}
	m.clientNames()
	ctx, cancel := context.WithTimeout(context.Background(), p.lasts)
	defer cancel()
	var running sync.WaitGroup
	for i := range p.workers {
		r := rand.New(rand.NewPCG(p.seed, uint64(1000+i)))
		running.Go(func() { m.work(ctx, r, i) })
	}
	if !p.calm {
		running.Go(func() { m.disturb(ctx, rand.New(rand.NewPCG(p.seed, 1))) })
	}
	running.Wait()
	for _, n := range m.members {
		n.dead.Store(true)
		n.limiter.Close()
	}
}

// boot starts a node, or another incarnation of it.
func (m *model) boot(name string) *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := rand.New(rand.NewPCG(m.seed, uint64(100+len(m.members))))
	n := &member{link: &link{m: m, name: name, rand: r}}
	ahead := m.clocks[name]
	if ahead == nil {
		ahead = &atomic.Int64{}
	}
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	n.limiter = limit.NewModel(limit.Config{
		Node: name, Slots: m.shares, Keys: m.keys, Clock: clock,
		Log: slog.New(errorLog{m: m}),
	}, n.link, n.link)
	n.limiter.SetRules(map[string]node.Limit{"r": m.limit})
	n.limiter.Open(context.Background())
	m.members = append(m.members, n)
	return n
}

// clientNames finds clients whose keys are in the same shard.
func (m *model) clientNames() {
	rule := m.members[0].limiter.Rule("r")
	for i := 0; len(m.names) < m.clients; i++ {
		name := fmt.Append(nil, "client ", i)
		if len(m.names) == 0 || rule.Key(name)[0] == rule.Key(m.names[0])[0] {
			m.names = append(m.names, name)
		}
	}
}

// others returns the members that the messages of a link reach.
func (m *model) others(l *link) []*member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.members), func(n *member) bool { return n.link == l || n.dead.Load() })
}

// alive returns the members that run, cut off or not.
func (m *model) alive() []*member { return m.others(nil) }

// work sends requests.
func (m *model) work(ctx context.Context, r *rand.Rand, worker int) {
	favourite := r.IntN(100)
	for ctx.Err() == nil {
		pause := time.Duration(r.ExpFloat64() * float64(m.pause))
		if !m.calm && r.IntN(3) > 0 {
			pause = time.Duration(r.IntN(1000)) // a burst
		}
		if alive := m.alive(); len(alive) > 0 {
			n := alive[r.IntN(len(alive))]
			switch {
			case m.movesTogether:
				n = alive[int(time.Now().UnixNano()/int64(m.window()/3))%len(alive)]
			case m.calm:
				n = alive[worker%len(alive)]
			case r.IntN(2) == 0:
				n = alive[favourite%len(alive)]
			}
			if d := m.request(ctx, n, r); m.calm && m.kind == "bucket" && !d.Allowed {
				pause = d.Reset // a client that obeys Reset
			}
		}
		select {
		case <-time.After(pause + 1):
		case <-ctx.Done():
		}
	}
}

// request sends a client's request to a node.
func (m *model) request(ctx context.Context, n *member, r *rand.Rand) limit.Decision {
	rule := n.limiter.Rule("r")
	client, cost := r.IntN(m.clients), 1+r.IntN(m.costs)
	key := rule.Key(m.names[client])
	if !m.calm && r.IntN(10) == 0 { // its client disconnects
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Int64N(int64(100*time.Millisecond))))
		defer cancel()
	}
	late := time.Duration(r.Float64() * float64(m.late))
	d, quickly := rule.Try(time.Now().Add(-late), key, uint32(cost))
	var err error
	if !quickly {
		d, err = rule.Take(ctx, key, uint32(cost))
		late = 0
	}
	a := &admission{
		at: time.Now().UnixNano(), skew: int64(n.skew() - late), until: d.Until(), client: client,
		node: n.link, cost: int64(cost),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	switch {
	case ctx.Err() != nil && !d.Allowed:
		return d
	case err != nil:
		m.errors++
		return d
	case !d.Allowed:
		return d
	}
	if m.admitted = append(m.admitted, a); rule.Occupies() && n.dead.Load() {
		a.returnedAt = a.at // it ended with its node
	}
	later, back := time.Duration(r.Int64N(int64(time.Second))), rule.Refund
	switch {
	case rule.Occupies():
		back = func(_ time.Time, key limit.Key, _ limit.Decision, cost uint32) { rule.Leave(key, cost) }
	case r.Float64() >= m.refunds:
		return d
	}
	time.AfterFunc(later, func() {
		m.mu.Lock()
		if a.returnedAt == 0 {
			a.returnedAt = time.Now().UnixNano()
		}
		m.mu.Unlock()
		back(time.Now(), key, d, uint32(cost))
	})
	return d
}

// disturb makes things fail until ctx ends.
func (m *model) disturb(ctx context.Context, r *rand.Rand) {
	for {
		select {
		case <-time.After(time.Duration(r.ExpFloat64() * float64(m.lasts) / float64(m.disturbances))):
		case <-ctx.Done():
			return
		}
		alive := m.alive()
		if len(alive) == 0 || len(alive) > 2*m.nodes {
			continue
		}
		if m.damage && r.IntN(4) == 0 {
			key, ghost := alive[0].limiter.Rule("r").Key(m.names[r.IntN(len(m.names))]), r.IntN(2) == 0
			m.log("the record of %s is damaged: ghost %t", key, ghost)
			m.store.damage(key, ghost)
		}
		n, lasts := alive[r.IntN(len(alive))], time.Duration(r.Int64N(int64(m.lasts/2)))
		if m.kind == "shares" && r.IntN(2) == 0 {
			lasts += 15 * time.Second // as long as a share number
		}
		switch r.IntN(8) {
		case 0:
			m.kill(n)
			time.AfterFunc(lasts/4, func() { m.reboot(ctx, n.name) })
		case 1: // an ordinary stop
			m.log("%s is stopped", n.name)
			n.limiter.Close()
			m.kill(n)
			time.AfterFunc(lasts/4, func() { m.reboot(ctx, n.name) })
		case 2:
			m.cutOff(n, r, lasts)
		case 3:
			m.cutOff(n, r, lasts)
			// The node is started again because it can't be reached, while it still runs. Slots belong to the name.
			if m.kind != "concurrent" {
				time.AfterFunc(lasts/2, func() { m.reboot(ctx, n.name) })
				time.AfterFunc(lasts+lasts/4, func() { m.kill(n) })
			}
		case 4:
			m.store.away.Store(true)
			time.AfterFunc(lasts/10, func() { m.store.away.Store(false) })
		case 5:
			m.believed.Store(int64(1 + r.IntN(m.nodes+1)))
			if m.wrongClocks > 0 {
				m.believed.Store(max(m.believed.Load(), 2))
			}
		case 6:
			m.believed.Store(int64(m.nodes))
		case 7:
			if m.wrongClocks > 0 {
				name := fmt.Sprint("n", 1+r.IntN(m.wrongClocks))
				m.clocks[name].Store(wrongBy(r))
				m.log("the clock of %s is set", name)
			}
			n.limiter.SetRules(map[string]node.Limit{"r": m.limit})
		}
	}
}

// cutOff cuts a running node off from the store, from the other nodes, or from both.
func (m *model) cutOff(n *member, r *rand.Rand, lasts time.Duration) {
	from := r.IntN(4)
	m.log("%s is cut off: %d", n.name, from)
	n.offStore.Store(from != 0)
	n.offPeers.Store(from != 1)
	time.AfterFunc(lasts, func() {
		n.offStore.Store(false)
		n.offPeers.Store(false)
	})
}

// kill ends a node at once. Messages that it has sent may still arrive.
func (m *model) kill(n *member) {
	n.dead.Store(true)
	m.mu.Lock()
	for _, a := range m.admitted {
		if a.node == n.link && a.returnedAt == 0 && m.kind == "concurrent" {
			a.returnedAt = time.Now().UnixNano() // its requests end with it
		}
	}
	m.mu.Unlock()
	m.log("%s is killed", n.name)
	n.limiter.Close()
}

func (m *model) reboot(ctx context.Context, name string) {
	if ctx.Err() == nil {
		m.log("%s starts again", name)
		m.boot(name)
	}
}

// log logs an event if a single seed is run.
func (m *model) log(format string, args ...any) {
	if !verbose() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, time.Now().Format("15:04:05.000000000 ")+fmt.Sprintf(format, args...))
}

// report fails the test if a bound is violated.
func (m *model) report(t *testing.T) {
	t.Helper()
	bad := m.check()
	if verbose() {
		for _, a := range m.admitted {
			m.lines = append(m.lines, a.String())
		}
		slices.Sort(m.lines)
		t.Log(strings.Join(m.lines, "\n"))
	}
	for _, b := range bad {
		t.Errorf("seed %d: %s (%s; of %d requests %d were admitted, %d got an error)", m.seed, b, m.plan, m.requests,
			len(m.admitted), m.errors)
	}
}

// A store that accepts stale writes gives permits away twice. For each kind of limit, some seed shows it.
func TestModelNoticesStoreThatAcceptsStaleWrites(t *testing.T) {
	for i, kind := range kinds {
		noticed := false
		for round := range uint64(40) {
			p := newPlan(round*uint64(len(kinds)) + uint64(i))
			if p.kind != kind {
				t.Fatalf("seed %d is of kind %s", p.seed, p.kind)
			}
			if p.calm {
				continue // whose other checks would notice too
			}
			if noticed = len(run(t, p, true).check()) > 0; noticed {
				t.Logf("%s: in seed %d", kind, p.seed)
				break
			}
		}
		if !noticed {
			t.Errorf("%s: not noticed", kind)
		}
	}
}

// A node is cut off from the store, and another incarnation of it takes over its share number. Other nodes still reach
// the old one. On a recall it gives nothing of a window that began after it lost the number, and the new one gives
// nothing of a window that began before it got the number. (A prototype admitted 25 of 5.)
func TestStaleIncarnationAnswersRecall(t *testing.T) {
	for _, id := range []string{"n1", "n2"} { // the old node's, or another
		// Whether the old node has begun its share of the window in which it loses the number.
		for _, begun := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s begun %t", id, begun), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { staleIncarnation(t, id, begun) })
			})
		}
	}
}

func staleIncarnation(t *testing.T, id string, begun bool) {
	t.Helper()
	// 20 per 10 s, half of which belong to the only share. Seconds count from the start of a window.
	l := rule("20/10s", func(l *node.Limit) { l.Align, l.StoreAway = node.AlignClock, node.StoreAwayShare })
	m := newModel(&plan{kind: "shares", limit: l, shares: 1})
	m.believed.Store(3)
	defer func() {
		for _, n := range m.members {
			n.limiter.Close()
		}
	}()
	at := func(seconds float64) {
		<-time.After(time.Until(time.Unix(time.Now().Unix()/3600*3600, int64(seconds*float64(time.Second)))))
	}
	at(0)
	stale := m.boot("n1")
	at(3.5) // when the first node has its time and its share number
	asker := m.boot("n3")
	get := func(n *member, want int) {
		t.Helper()
		if got := takeAll(t, n); got != want {
			t.Errorf("%s got %d at %s, want %d", n.name, got, time.Now().Format("05.0"), want)
		}
	}
	at(11.5) // it last renewed the number at 11, so it uses it until 23, and another node can have it from 26 on
	stale.offStore.Store(true)
	at(21)
	if begun {
		get(asker, 20)
	}
	at(24.5)
	get(asker, map[bool]int{false: 10}[begun])
	get(stale, 0)
	asker.offStore.Store(true) // so that it doesn't get the share number
	at(25.5)
	fresh := m.boot(id)
	at(28.5)
	asker.offStore.Store(false)
	if stale.limiter.ShareNumber() != 0 || fresh.limiter.ShareNumber() != 1 {
		t.Fatalf("share %d is the old incarnation's, %d the new one's", stale.limiter.ShareNumber(),
			fresh.limiter.ShareNumber())
	}
	at(29)
	get(asker, 0)
	get(stale, 0)
	get(fresh, 0)
	at(31)
	get(stale, 0)
	sum := 20
	// Only one reply of a name counts. If it is the old node's, what the other gave is lost.
	if id == stale.name {
		sum = takeAll(t, asker)
	} else {
		get(asker, 20)
	}
	at(34)
	if sum += takeAll(t, fresh) + takeAll(t, stale) + takeAll(t, asker); sum > 20 {
		t.Errorf("%d of 20", sum)
	}
}

// takeAll spends what a node has or gets, and returns how much that is.
func takeAll(t *testing.T, n *member) (sum int) {
	t.Helper()
	r := n.limiter.Rule("r")
	key := r.Key([]byte("client"))
	for range 100 {
		d, quickly := r.Try(time.Now(), key, 1)
		if !quickly {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			d, _ = r.Take(ctx, key, 1) // an error means that it is cut off
			cancel()
		}
		if !d.Allowed {
			break
		}
		sum++
	}
	return sum
}
