package limit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// notServingStore has a record that it doesn't return: reads find nothing, and writes conflict.
type notServingStore struct {
	*flatStore

	ghost atomic.Pointer[limit.Key]
}

func (s *notServingStore) is(key limit.Key) bool {
	ghost := s.ghost.Load()
	return ghost != nil && *ghost == key
}

func (s *notServingStore) Get(ctx context.Context, key limit.Key, fresh bool) (limit.Stored, error) {
	if s.is(key) {
		return limit.Stored{}, nil
	}
	return s.flatStore.Get(ctx, key, fresh)
}

func (s *notServingStore) Put(ctx context.Context, key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	if s.is(key) {
		return 0, limit.ErrConflict
	}
	return s.flatStore.Put(ctx, key, v, keep)
}

func (s *notServingStore) Drop(ctx context.Context, key limit.Key, upTo uint64) error {
	if s.is(key) {
		s.ghost.Store(nil)
	}
	return s.flatStore.Drop(ctx, key, upTo)
}

// hourLimits are limits of all kinds that count for an hour.
func hourLimits() map[string]node.Limit {
	return map[string]node.Limit{
		"fixed": rule("20/1h"), "sliding": rule("20/1h", algorithm(node.AlgorithmSliding)),
		"bucket":   rule("20/1h", algorithm(node.AlgorithmBucket)),
		"inflight": inFlight(20),
	}
}

// A conflict with a record that reads don't return gives no fresh allowance. The store counts as away for that key and
// for no other, and Conditions reports it. That ends when the record can't limit anything any more, or when the key is
// reset.
func TestRecordNotServedGivesNoAllowance(t *testing.T) {
	t.Parallel()
	for name, lim := range hourLimits() {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " reset ", reset), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { ghost(t, lim, reset) })
			})
		}
	}
}

func ghost(t *testing.T, lim node.Limit, reset bool) {
	t.Helper()
	s := &notServingStore{flatStore: newFlatStore()}
	ls := flatOn(t, []limit.ModelStore{s}, map[string]node.Limit{"r": lim})
	defer closeAll(t, ls)
	r := ls[0].Rule("r")
	key := r.Key([]byte("bad"))
	s.ghost.Store(&key)
	begun := time.Now()
	for i := range 50 {
		if d, err := r.Take(t.Context(), key, 1); !errors.Is(err, limit.ErrAway) || d.Allowed {
			t.Fatalf("request %d of the key got %+v, %v", i, d, err)
		}
		if d, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "good %d", i)), 1); err != nil || !d.Allowed {
			t.Fatalf("another key got %+v, %v", d, err)
		}
		after(100 * time.Millisecond)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if all := strings.Join(ls[0].Conditions(), "\n"); !strings.Contains(all,
		"the records of 1 limited clients are damaged") {
		t.Errorf("the operator hears of %q", all)
	}
	if reset {
		if err := r.Reset(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	} else {
		for time.Since(begun) < 2*time.Hour && s.ghost.Load() != nil {
			after(time.Minute)
			_, _ = r.Take(t.Context(), key, 1) // one of them finds that the time is over
		}
	}
	if d, err := r.Take(t.Context(), key, 1); err != nil || !d.Allowed {
		t.Errorf("afterwards got %+v, %v", d, err)
	}
	if c := ls[0].Conditions(); len(c) > 0 {
		t.Errorf("afterwards the operator hears of %q", c)
	}
}

// A lost record gives no fresh allowance if its content is known. A node that is alone writes it again. If other nodes
// may have leased from it, or its content isn't fully known, its key waits until the window ends.
func TestLostRecordGivesNoAllowance(t *testing.T) {
	t.Parallel()
	for name, lim := range hourLimits() {
		for _, nodes := range []int{1, 3} {
			t.Run(fmt.Sprint(name, " ", nodes), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newFlatStore()
					ls := flat(t, nodes, s, map[string]node.Limit{"r": lim})
					defer closeAll(t, ls)
					r := ls[0].Rule("r")
					key := r.Key([]byte("client"))
					got := spend(t, ls[0], "client", 7)
					if err := s.Drop(t.Context(), key, 1<<62); err != nil {
						t.Fatal(err)
					}
					if got += spend(t, ls[0], "client", 50); got > 20 {
						t.Errorf("%d passed of 20", got)
					}
					if name != "sliding" && nodes == 1 && got != 20 {
						t.Errorf("%d passed at a node that is alone, want 20", got)
					}
				})
			})
		}
	}
}

// A record that can't be read blocks its own key until it can't limit anything any more.
func TestUnreadableRecordIsReplacedInTheEnd(t *testing.T) {
	t.Parallel()
	for name, lim := range hourLimits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": lim})
				defer closeAll(t, ls)
				r := ls[0].Rule("r")
				key := r.Key([]byte("bad"))
				if _, err := ls[0].Put(key, []byte("from the future"), 0, 1000*time.Hour); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Take(t.Context(), key, 1); !errors.Is(err, limit.ErrAway) {
					t.Fatalf("got %v", err)
				}
				begun, passed := time.Now(), false
				for time.Since(begun) < 3*time.Hour && !passed {
					after(time.Minute)
					d, _ := r.Take(t.Context(), key, 1)
					passed = d.Allowed
				}
				if !passed {
					t.Error("it never ends")
				}
			})
		})
	}
}

// damageable starts a single server and returns its directory.
func damageable(t *testing.T) (s *natsserver.Server, dir string) {
	t.Helper()
	dir = t.TempDir()
	s, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: dir, Listen: "127.0.0.1:0",
		MemberToken: natsservertest.Token, Log: nodetest.Discard(), Rebuilt: []string{"KV_millrace-limits"},
	})
	if err == nil {
		err = s.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, dir
}

// damageBlocks changes the blocks of all streams while the server is down.
func damageBlocks(t *testing.T, s *natsserver.Server, dir string, damage func(raw []byte) []byte) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	for _, b := range blocks {
		raw, err := os.ReadFile(b)
		if err == nil {
			err = os.WriteFile(b, damage(raw), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The blocks of an unreplicated stream are truncated while its server is down. Clients whose records are lost or
// outdated get no fresh allowance from a node that knows about them, and no smaller one.
func TestTruncatedBlocksGiveNoAllowance(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(raw []byte) []byte{
		"cut":    func(raw []byte) []byte { return raw[:len(raw)/2] },
		"zeroed": func(raw []byte) []byte { clear(raw[len(raw)/2:]); return raw },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most, clients = 50, 100
			s, dir := damageable(t)
			l := open(t, s, "n1", map[string]node.Limit{"r": rule("50/1h")})
			got := make([]int, clients)
			for i := range got {
				got[i], _ = passes(t, []*limit.Limiter{l}, "r", fmt.Sprint("client ", i), 30)
			}
			damageBlocks(t, s, dir, damage)
			nodetest.Eventually(t, "the store is back", l.Ready)
			whole := 0
			for i := range got {
				n, _ := passes(t, []*limit.Limiter{l}, "r", fmt.Sprint("client ", i), 60)
				if got[i] += n; got[i] > most {
					t.Errorf("%d requests of client %d passed of %d", got[i], i, most)
				}
				if got[i] == most {
					whole++
				}
			}
			if whole < clients/2 {
				t.Errorf("only %d of %d clients had all of their permits", whole, clients)
			}
		})
	}
}

// memoryMark is a Mark in memory.
type memoryMark struct{ atomic.Uint64 }

func (m *memoryMark) Save(n uint64) error { m.Store(n); return nil }

// Some records of an unreplicated stream are damaged while the node is down. The server starts anyway, the node finds
// and reports the loss, and other clients are served as before.
func TestDamagedRecordsAreReported(t *testing.T) {
	t.Parallel()
	const most, clients = 50, 200
	limits := map[string]node.Limit{"r": rule("50/1h")}
	s, dir := damageable(t)
	var m memoryMark
	remembers := func(c *limit.Config) { c.Mark = &m }
	before := open(t, s, "n1", limits, remembers)
	for i := range clients {
		passes(t, []*limit.Limiter{before}, "r", fmt.Sprint("client ", i), 30)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	if m.Load() == 0 {
		t.Error("nothing is remembered")
	}
	damageBlocks(t, s, dir, func(raw []byte) []byte {
		for i := len(raw) / 10; i < len(raw); i += 5000 {
			raw[i] ^= 0xff
		}
		return raw
	})
	l := open(t, s, "n2", limits, remembers)
	served := 0
	for i := range clients {
		if n, _ := passes(t, []*limit.Limiter{l}, "r", fmt.Sprint("client ", i), 60); n > 0 {
			served++
		}
	}
	if all := strings.Join(l.Conditions(), "\n"); served < clients/2 || !strings.Contains(all, "has lost records") {
		t.Errorf("%d of %d clients were served, and the operator hears of %q", served, clients, all)
	}
	// A known loss isn't reported again.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c := open(t, s, "n3", limits, remembers).Conditions(); len(c) > 0 {
		t.Errorf("the next node hears of %q", c)
	}
}
