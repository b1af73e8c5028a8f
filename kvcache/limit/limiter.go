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

// ErrAway means that the store can't be reached, so that nobody knows whether the request is within its limit.
var ErrAway = errors.New("the store of limits is away")

// Patience is how long a request waits for the store at most. A cluster needs less time to replace a leader that died.
// When the store has been away for that long, requests don't wait any more. Requests that are let through anyway, with
// store_away: open or in shadow mode, wait less.
const Patience = 2 * time.Second

// Config configures a Limiter.
type Config struct {
	Node     string     // unique id of this node
	NATS     *nats.Conn // opened and closed by the caller
	Prefix   string     // of the mesh's subjects; may be empty
	Replicas int        // of the stream: 1, or 3 in a cluster
	Remote   bool       // other nodes make and change the stream, this one only uses it
	Nodes    func() int // number of nodes, this one included; nil for a node that is alone
	Slots    int        // number of shares of a limit with store_away: share; 0 means 1
	// Clock returns this node's wall clock time; nil means time.Now. It doesn't affect how the limits' time advances.
	Clock func() time.Time
	// Yield is called every few seconds while this node's clock is off, so that its server doesn't lead the stream. It
	// may be nil.
	Yield func()
	Mark  Mark // remembers the store's last write across restarts; may be nil
	// StoreBytes is the maximal size of the stream; 0 means the constant StoreBytes. An existing stream never gets
	// smaller.
	StoreBytes int64
	// Keys is how many keys the node remembers at most; 0 means 4 million. For keys beyond that it asks the store more
	// often.
	Keys int
	Log  *slog.Logger
}

// Mark remembers across restarts the revision of the last write that the store has acknowledged, so that the loss of
// acknowledged writes is found. Load returns 0 if it can't be read.
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
	share share
	clock *clock
	alone bool // there are no other nodes, ever

	damage damage

	rules     atomic.Pointer[map[string]*Rule] // by name
	byID      atomic.Pointer[map[string]*Rule]
	flights   atomic.Int64 // number of running flights and slot renewals
	leaseTook atomic.Int64 // how long the last lease took, in nanoseconds

	counts

	opening   sync.Once
	openErr   error
	closeDone chan struct{} // closed when Close is done

	mu      sync.Mutex // guards closed; nothing begins after it is set
	closed  bool
	ctx     context.Context //nolint:containedctx // ends with the limiter
	stop    context.CancelFunc
	running sync.WaitGroup
}

// counts are how often the store and other nodes were asked, and with what success.
type counts struct {
	reads, writes, conflicts, failures, recalls, recalled atomic.Uint64
}

// peers are the limiters of the other nodes. recall returns their replies, at most one of each node, once all have
// replied or after wait.
type peers interface {
	nodes() int
	recall(ctx context.Context, w recallRequest, wait time.Duration) []recallReply
}

// New checks the configuration and returns a Limiter. Open starts it.
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
	l.store = &store{raw: raw, firstWrite: firstWriteTry}
	if raw.batcher != nil {
		l.store.firstWrite = firstWriteTryAlone
	}
	l.peers = newMeshPeers(l)
	l.alone = cfg.Nodes == nil
	return l, nil
}

func newLimiter(cfg Config) *Limiter {
	cfg.Replicas, cfg.Slots = max(cfg.Replicas, 1), min(max(cfg.Slots, 1), maxShares)
	if cfg.Remote {
		cfg.Replicas = 0
	}
	if cfg.Keys == 0 {
		cfg.Keys = 4_000_000
	}
	if cfg.StoreBytes == 0 {
		cfg.StoreBytes = StoreBytes
	}
	l := &Limiter{cfg: cfg, table: newTable(cfg.Keys), clock: newClock(cfg.Clock), closeDone: make(chan struct{})}
	l.share.base = time.Now()
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.rules.Store(&map[string]*Rule{})
	l.byID.Store(&map[string]*Rule{})
	return l
}

// now returns the limits' time.
func (l *Limiter) now() time.Time { return time.Unix(0, l.clock.now()) }

// SetRules replaces the rules. A rule that counts in the same way keeps its state; one with another window starts anew.
func (l *Limiter) SetRules(limits map[string]node.Limit) {
	before := *l.rules.Load()
	rules, byID := make(map[string]*Rule, len(limits)), make(map[string]*Rule, len(limits))
	resized := false
	for name, limit := range limits {
		r := newRule(l, name, limit)
		if old := before[name]; old != nil && old.id == r.id {
			resized = resized || old.pool() != r.pool()
			r = old.inherit(r)
		}
		rules[name], byID[r.id] = r, r
	}
	l.rules.Store(&rules)
	l.byID.Store(&byID)
	if resized {
		l.table.forgetRecords()
	}
}

// Rule returns the rule of a name; nil if there is none.
func (l *Limiter) Rule(name string) *Rule { return (*l.rules.Load())[name] }

// Rules returns all rules, sorted by name.
func (l *Limiter) Rules() []*Rule {
	rules := *l.rules.Load()
	out := make([]*Rule, 0, len(rules))
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		out = append(out, rules[name])
	}
	return out
}

// Open starts to use the store and doesn't wait for it. Only the first call has an effect: a node without limits needs
// no stream, and opens its limiter when a route gets a limit.
func (l *Limiter) Open(context.Context) error {
	l.opening.Do(func() { l.openErr = l.open() })
	return l.openErr
}

func (l *Limiter) open() error {
	if m, ok := l.peers.(*meshPeers); ok {
		if err := m.open(); err != nil {
			return fmt.Errorf("open limits: %w", err)
		}
	}
	if !l.spawn(func() { l.store.watch(l.ctx) }) {
		return errors.New("open limits: they are closed")
	}
	l.spawn(func() { l.syncClock(l.ctx) })
	l.spawn(l.maintain)
	l.spawn(func() { l.keepShare(l.ctx) })
	return nil
}

// maintain does the periodic work.
func (l *Limiter) maintain() {
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
			l.renewSlots(l.ctx)
			l.damage.sweep(time.Now(), l.longest()+time.Hour)
		}
	}
}

// Close stops the limiter, and returns the node's permits as far as that takes no more than a second. It may be called
// more than once, and without Open.
func (l *Limiter) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		<-l.closeDone
		return nil
	}
	defer close(l.closeDone)
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

// spawn runs f in a goroutine that Close waits for. It reports false if the limiter is closed.
func (l *Limiter) spawn(f func()) bool {
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

// Stats describes what a limiter has done and holds.
type Stats struct {
	Keys      int    // entries in memory
	Reads     uint64 // of records
	Writes    uint64 // of records
	Conflicts uint64 // writes that another node's write preceded
	Failures  uint64 // reads and writes that failed otherwise
	Recalls   uint64 // requests to the other nodes for permits
	Recalled  uint64 // permits that they returned
	Ready     bool   // the store can be reached
}

// Stats returns a snapshot.
func (l *Limiter) Stats() Stats {
	return Stats{
		Keys: l.table.len(), Reads: l.reads.Load(), Writes: l.writes.Load(), Conflicts: l.conflicts.Load(),
		Failures: l.failures.Load(),
		Recalls:  l.recalls.Load(), Recalled: l.recalled.Load(), Ready: l.Ready(),
	}
}
