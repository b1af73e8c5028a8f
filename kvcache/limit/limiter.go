package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/node"
)

// ErrAway means that the store can't be asked, so that nobody knows whether the request is within its limit.
var ErrAway = errors.New("the store of limits is away")

// Patience is how long a request waits for the store at most: longer than a cluster takes to replace a leader that
// died. When the store has been away for so long, requests don't wait for it any more. Those that pass all the same,
// with store_away: open or in shadow mode, wait less.
const Patience = 2 * time.Second

// Config says what a Limiter works with.
type Config struct {
	Node     string     // unique id of this node
	NATS     *nats.Conn // that the caller opened and closes
	Prefix   string     // of the mesh's subjects; may be empty
	Replicas int        // of the stream: 1, or 3 in a cluster
	Nodes    func() int // how many nodes are there, this one included; nil for a node that is alone
	Slots    int        // nodes that a limit with store_away: share is divided among; 1 if it is 0
	// what this node's clock says; time.Now if it is nil. How time passes, it doesn't decide
	Clock func() time.Time
	// told every few seconds while this node's clock is off, so that its server doesn't lead the stream; may be nil
	Yield func()
	Mark  Mark // remembers how far the writes of the store had come; nil remembers nothing
	// the largest size of the stream; StoreBytes if it is 0. One that is there never gets smaller
	StoreBytes int64
	// how many keys the node remembers at most; 4 million if it is 0. Beyond that it asks the store more often
	Keys int
	Log  *slog.Logger
}

// Mark remembers a number beyond the node's end: of the last write that the store has acknowledged, so that a store
// which has lost acknowledged writes is found out. One that can't be read is 0.
type Mark interface {
	Load() uint64
	Save(n uint64) error
}

// Limiter holds a node's permits. Its methods are safe for concurrent use between Open and Close.
type Limiter struct {
	cfg   Config
	table *table
	store *store
	peers peers
	slot  slot
	clock *clock
	alone bool // there are no other nodes, ever

	damage damage

	rules   atomic.Pointer[map[string]*Rule] // by name
	byID    atomic.Pointer[map[string]*Rule]
	flights atomic.Int64 // that run
	takes   atomic.Int64 // how long the last lease took, in nanoseconds

	reads, writes, conflicts, failures, recalls, recalled atomic.Uint64

	opening sync.Once
	opened  error
	ended   chan struct{} // closed when Close is done

	mu      sync.Mutex // guards closed, and that nothing begins after it
	closed  bool
	ctx     context.Context //nolint:containedctx // ends with the limiter
	stop    context.CancelFunc
	running sync.WaitGroup
}

// peers are the limiters of the other nodes. recall gives their replies, each node's at most once: until all have
// answered, or for so long.
type peers interface {
	nodes() int
	recall(ctx context.Context, w want, wait time.Duration) []gift
}

// New checks the configuration. Open starts.
func New(cfg Config) (*Limiter, error) {
	if cfg.Node == "" || cfg.NATS == nil || cfg.Log == nil {
		return nil, errors.New("configure limits: node, NATS and log are needed")
	}
	js, err := jetstream.New(cfg.NATS)
	if err != nil {
		return nil, fmt.Errorf("configure limits: %w", err)
	}
	l := newLimiter(cfg)
	raw := newStreamStore(&l.cfg, js)
	l.store = &store{raw: raw, first: firstWrite}
	if raw.group != nil {
		l.store.first = firstAlone
	}
	l.peers = newMeshPeers(l)
	l.alone = cfg.Nodes == nil
	return l, nil
}

func newLimiter(cfg Config) *Limiter {
	cfg.Replicas, cfg.Slots = max(cfg.Replicas, 1), min(max(cfg.Slots, 1), maxSlots)
	if cfg.Keys == 0 {
		cfg.Keys = 4_000_000
	}
	if cfg.StoreBytes == 0 {
		cfg.StoreBytes = StoreBytes
	}
	l := &Limiter{cfg: cfg, table: newTable(cfg.Keys), clock: newClock(cfg.Clock), ended: make(chan struct{})}
	l.slot.base = time.Now()
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.rules.Store(&map[string]*Rule{})
	l.byID.Store(&map[string]*Rule{})
	return l
}

// now is the limits' time.
func (l *Limiter) now() time.Time { return time.Unix(0, l.clock.now()) }

// SetRules replaces the rules. One that counts as before keeps what it knows; one with another window begins anew.
func (l *Limiter) SetRules(limits map[string]node.Limit) {
	before := *l.rules.Load()
	rules, byID := make(map[string]*Rule, len(limits)), make(map[string]*Rule, len(limits))
	resized := false
	for name, limit := range limits {
		r := newRule(l, name, limit)
		if old := before[name]; old != nil && old.id == r.id {
			resized = resized || old.pool() != r.pool()
			r = old.with(r)
		}
		rules[name], byID[r.id] = r, r
	}
	l.rules.Store(&rules)
	l.byID.Store(&byID)
	if resized {
		l.table.forget()
	}
}

// Rule gives the rule of a name; nil if there is none.
func (l *Limiter) Rule(name string) *Rule { return (*l.rules.Load())[name] }

// Rules gives all rules, by name.
func (l *Limiter) Rules() []*Rule {
	rules := *l.rules.Load()
	out := make([]*Rule, 0, len(rules))
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		out = append(out, rules[name])
	}
	return out
}

// Open begins to use the store, without waiting for it. Only the first call does something: a node without limits needs
// no stream, and opens its limiter when a route begins to have one.
func (l *Limiter) Open(context.Context) error {
	l.opening.Do(func() { l.opened = l.open() })
	return l.opened
}

func (l *Limiter) open() error {
	if m, ok := l.peers.(*meshPeers); ok {
		if err := m.open(); err != nil {
			return fmt.Errorf("open limits: %w", err)
		}
	}
	if !l.begin(func() { l.store.watch(l.ctx) }) {
		return errors.New("open limits: they are closed")
	}
	l.begin(func() { l.keepTime(l.ctx) })
	l.begin(l.tend)
	l.begin(func() { l.keepSlot(l.ctx) })
	return nil
}

// tend does what has to be done from time to time.
func (l *Limiter) tend() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-l.ctx.Done():
			return
		}
		now := l.clock.now()
		l.table.sweep(2*i, now)
		l.table.sweep(2*i+1, now)
		if i%10 == 0 {
			l.renewPlaces(l.ctx)
			l.damage.sweep(time.Now(), l.longest()+time.Hour)
		}
	}
}

// Close stops, and returns the permits that the node holds as far as a second suffices. It can be called again, and
// without Open.
func (l *Limiter) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		<-l.ended
		return nil
	}
	defer close(l.ended)
	var err error
	if m, ok := l.peers.(*meshPeers); ok {
		err = m.close()
	}
	if l.Ready() {
		l.giveBack()
	}
	l.stop()
	l.running.Wait()
	return err
}

// begin runs f in a goroutine that Close waits for. False means that the limiter is closed.
func (l *Limiter) begin(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.running.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				l.cfg.Log.Error("limiter panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
		}()
		f()
	})
	return true
}

// Stats is what a limiter has done, and holds.
type Stats struct {
	Keys      int    // entries in memory
	Reads     uint64 // of records
	Writes    uint64 // of records
	Conflicts uint64 // writes that came after another node's
	Failures  uint64 // reads and writes that failed otherwise
	Recalls   uint64 // questions to the other nodes for permits
	Recalled  uint64 // permits that they gave
	Ready     bool   // the store can be asked
}

// Stats gives a snapshot.
func (l *Limiter) Stats() Stats {
	return Stats{
		Keys: l.table.len(), Reads: l.reads.Load(), Writes: l.writes.Load(), Conflicts: l.conflicts.Load(),
		Failures: l.failures.Load(),
		Recalls:  l.recalls.Load(), Recalled: l.recalled.Load(), Ready: l.Ready(),
	}
}
