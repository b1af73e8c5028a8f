package limit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

func keyOf(i int) limit.Key {
	var key limit.Key
	copy(key[:], fmt.Sprintf("key %8d", i))
	return key
}

// A record is replaced only by a writer that has read its latest revision.
func TestStaleWriteConflicts(t *testing.T) { // not parallel: three servers need the machine
	alone := open(t, natsservertest.Start(t), "n1", nil)
	for where, ls := range map[string][]*limit.Limiter{"alone": {alone, alone}, "three": three(t, nil)[:2]} {
		a, b := ls[0], ls[1]
		if value, rev, err := a.Get(keyOf(1)); value != nil || rev != 0 || err != nil {
			t.Errorf("%s: an unknown key gave %q, %d, %v", where, value, rev, err)
		}
		first, err := a.Put(keyOf(1), []byte("first"), 0, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for _, rev := range []uint64{0, first + 1, first + 1000} {
			if _, err := b.Put(keyOf(1), []byte("wrong"), rev, time.Minute); !errors.Is(err, limit.ErrConflict) {
				t.Errorf("%s: a write on revision %d of %d gave %v", where, rev, first, err)
			}
		}
		if _, err := b.Put(keyOf(2), []byte("wrong"), first, time.Minute); !errors.Is(err, limit.ErrConflict) {
			t.Errorf("%s: a write on a revision of another key gave %v", where, err)
		}
		second, err := b.Put(keyOf(1), []byte("second"), first, time.Minute)
		if err != nil || second <= first {
			t.Errorf("%s: revision %d after %d, %v", where, second, first, err)
		}
		if value, rev, err := a.Get(keyOf(1)); string(value) != "second" || rev != second || err != nil {
			t.Errorf("%s: got %q, %d, %v", where, value, rev, err)
		}
	}
}

// Concurrent writes are written as one batch. If one of them is stale, all others succeed.
func TestConcurrentWritesAreBatched(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	records := stream(t, s, 1<<30)
	l := open(t, s, "n1", nil)
	const puts, late = 500, 123
	for try := 0; ; try++ {
		b := batch{l: l, first: 1000 * try, revs: make([]uint64, puts)}
		b.put(t, func(int) uint64 { return 0 })
		first := b.revs
		if b.conflicts != nil {
			t.Fatalf("writes %v of new keys conflicted", b.conflicts)
		}
		if info, err := records.Info(t.Context()); err == nil {
			t.Logf("%d records take %d bytes each", info.State.Msgs, info.State.Bytes/max(info.State.Msgs, 1))
		}
		b.revs = make([]uint64, puts)
		b.put(t, func(i int) uint64 {
			if i == late {
				return first[i] + 1
			}
			return first[i]
		})
		if b.away > 0 && try < 5 { // a busy machine
			t.Logf("the store didn't answer %d writes", b.away)
			continue
		}
		if b.away > 0 || len(b.conflicts) != 1 || b.conflicts[0] != late {
			t.Fatalf("writes %v conflicted, want %d; %d had no answer", b.conflicts, late, b.away)
		}
		b.revs[late], first[late] = first[late], 0 // its record is unchanged
		b.check(t, func(i int) uint64 { return first[i] })
		return
	}
}

// batch is a set of records that are written at once.
type batch struct {
	l     *limit.Limiter
	first int
	revs  []uint64 // of the last writes

	mu        sync.Mutex // guards what follows
	conflicts []int
	away      int
}

func (b *batch) value(i int, rev uint64) string { return fmt.Sprintf("value %d on %d", i, rev) }

func (b *batch) put(tb testing.TB, rev func(i int) uint64) {
	tb.Helper()
	var running sync.WaitGroup
	for i := range b.revs {
		running.Go(func() {
			next, err := b.l.Put(keyOf(b.first+i), []byte(b.value(i, rev(i))), rev(i), time.Minute)
			b.mu.Lock()
			defer b.mu.Unlock()
			switch b.revs[i] = next; {
			case errors.Is(err, limit.ErrConflict):
				b.conflicts = append(b.conflicts, i)
			case errors.Is(err, limit.ErrAway), errors.Is(err, limit.ErrUnsure): // its first try got no reply in time
				b.away++
			case err != nil:
				tb.Errorf("write %d gave %v", i, err)
			}
		})
	}
	running.Wait()
}

func (b *batch) check(tb testing.TB, rev func(i int) uint64) {
	tb.Helper()
	for i, want := range b.revs {
		value, got, err := b.l.Get(keyOf(b.first + i))
		if string(value) != b.value(i, rev(i)) || got != want || err != nil {
			tb.Fatalf("record %d is %q with revision %d, want %q and %d; %v", i, value, got, b.value(i, rev(i)), want,
				err)
		}
	}
}

// A record expires, and its key is as new as before.
func TestRecordExpires(t *testing.T) {
	t.Parallel()
	forgets(t, open(t, natsservertest.Start(t), "n1", nil))
}

func TestRecordExpiresOverThreeNodes(t *testing.T) { // not parallel: three servers need the machine
	forgets(t, three(t, nil)[0])
}

func forgets(t *testing.T, l *limit.Limiter) {
	t.Helper()
	var running sync.WaitGroup
	for i := range 20 { // as one batch too
		running.Go(func() {
			if _, err := l.Put(keyOf(i), []byte("short"), 0, time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if _, err := l.Put(keyOf(99), []byte("long"), 0, time.Minute); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		nodetest.Eventually(t, "the record leaves", func() bool {
			_, rev, err := l.Get(keyOf(i))
			return err == nil && rev == 0
		})
	}
	if _, err := l.Put(keyOf(1), []byte("anew"), 0, time.Minute); err != nil {
		t.Errorf("a key that was forgotten gave %v", err)
	}
	if _, rev, err := l.Get(keyOf(99)); rev == 0 || err != nil {
		t.Errorf("a record left too early: %d, %v", rev, err)
	}
}

// A client that has spent its allowance gets no new one after a restart of the server or of the node.
func TestRestartGivesNoAllowance(t *testing.T) {
	t.Parallel()
	limits := map[string]node.Limit{"r": rule("10/1h"), "b": rule("10/1h", func(l *node.Limit) {
		l.Algorithm = node.AlgorithmBucket
	})}
	s := natsservertest.Start(t)
	l := open(t, s, "n1", limits)
	for name := range limits {
		if got, _ := passes(t, []*limit.Limiter{l}, name, "client", 7); got != 7 {
			t.Fatalf("%s: %d passed, want 7", name, got)
		}
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := open(t, s, "n2", limits)
	for name := range limits {
		nodetest.Eventually(t, name+" answers", func() bool {
			_, err := other.Rule(name).Take(t.Context(), other.Rule(name).Key([]byte("probe")), 1)
			return err == nil
		})
		// What the first node had leased is lost for the second, which knows no other node.
		if got, _ := passes(t, []*limit.Limiter{other}, name, "client", 20); got > 3 {
			t.Errorf("%s: %d passed after 7 of 10, want at most 3", name, got)
		}
	}
	nodetest.Eventually(t, "the first node has the store", func() bool {
		_, err := l.Rule("r").Take(t.Context(), l.Rule("r").Key([]byte("probe")), 1)
		return err == nil
	})
	for name := range limits {
		if got, _ := passes(t, []*limit.Limiter{l, other}, name, "client", 20); got > 3 {
			t.Errorf("%s: %d passed after 7 of 10, want at most 3", name, got)
		}
	}
}

// While the store is away, requests fail early and the node can spend what it holds. Afterwards all is as before.
func TestStoreAwayIsKnownSoon(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	l := open(t, s, "n1", map[string]node.Limit{"r": rule("1000/1h"), "c": inFlight(10)})
	r, c := l.Rule("r"), l.Rule("c")
	held := r.Key([]byte("held"))
	if d, err := r.Take(t.Context(), held, 1); err != nil || !d.Allowed {
		t.Fatalf("got %+v, %v", d, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err := r.Take(t.Context(), held, 1); err != nil || !d.Allowed {
		t.Errorf("a permit that the node holds: got %+v, %v", d, err)
	}
	for i := range 5 {
		for _, r := range []*limit.Rule{r, c} {
			begun := time.Now()
			d, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "new %d", i)), 1)
			if took := time.Since(begun); !errors.Is(err, limit.ErrAway) || d.Allowed ||
				took > limit.Patience+500*time.Millisecond {
				t.Errorf("request %d got %+v, %v after %s", i, d, err, took)
			}
		}
	}
	nodetest.Eventually(t, "the store is known to be away", func() bool { return !l.Ready() })
	for _, r := range []*limit.Rule{r, c} {
		if _, err := r.Usage(t.Context(), held); !errors.Is(err, limit.ErrAway) {
			t.Errorf("%s: usage gave %v", r.Name, err)
		}
	}
	if err := r.Reset(t.Context(), held); !errors.Is(err, limit.ErrAway) {
		t.Errorf("reset gave %v", err)
	}
	begun := time.Now()
	for i := range 100 {
		if _, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "away %d", i)), 1); !errors.Is(err, limit.ErrAway) {
			t.Errorf("got %v", err)
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("100 requests took %s while the store was known to be away", took)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the store is back", l.Ready)
	for i := range 5 {
		nodetest.Eventually(t, "a new client passes", func() bool {
			d, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "new %d", i)), 1)
			e, err2 := c.Take(t.Context(), c.Key(fmt.Appendf(nil, "new %d", i)), 1)
			if e.Allowed {
				c.Leave(c.Key(fmt.Appendf(nil, "new %d", i)), 1)
			}
			return err == nil && d.Allowed && err2 == nil && e.Allowed
		})
	}
}

// stream creates the stream with its own size limit before there is a limiter.
func stream(tb testing.TB, s *natsserver.Server, maxBytes int64) jetstream.Stream {
	tb.Helper()
	js, err := jetstream.New(natsservertest.Connect(tb, s, func(c *mesh.Config) { c.Name = "stream" }).NATS())
	if err != nil {
		tb.Fatal(err)
	}
	nodetest.Eventually(tb, "JetStream answers", func() bool {
		_, err := js.AccountInfo(context.Background())
		return err == nil
	})
	const name = "millrace-limits"
	out, err := js.CreateStream(tb.Context(), jetstream.StreamConfig{
		Name: "KV_" + name, Subjects: []string{"$KV." + name + ".>"}, MaxMsgsPerSubject: 1, MaxBytes: maxBytes,
		Discard:     jetstream.DiscardNew,
		AllowRollup: true, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// A full store accepts no new keys, as if it were away, and keeps all old ones.
func TestFullStoreKeepsOldKeys(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	small := func(c *limit.Config) { c.StoreBytes = 20_000 }
	records := stream(t, s, 20_000)
	l := open(t, s, "n1", map[string]node.Limit{"r": rule("2/1h")}, small)
	r := l.Rule("r")
	key := func(i int) limit.Key { return r.Key(fmt.Appendf(nil, "client %d", i)) }
	passed := 0
	nodetest.Eventually(t, "the store is full", func() bool {
		d, err := r.Take(t.Context(), key(passed), 1)
		if err == nil && d.Allowed {
			passed++
		}
		return err != nil
	})
	t.Logf("%d keys in 20000 bytes", passed)
	for range 2 { // each of a new key
		nodetest.Eventually(t, "the limiter asks again and learns it once more", func() bool {
			before := l.Stats().Failures
			_, err := r.Take(t.Context(), key(passed+1000), 1)
			return errors.Is(err, limit.ErrAway) && l.Stats().Failures > before
		})
	}
	info, err := records.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	// One record is the probe of the node.
	if int(info.State.Msgs) != passed+1 || info.State.NumSubjects != uint64(passed+1) {
		t.Errorf("%d records of %d keys, want %d", info.State.Msgs, info.State.NumSubjects, passed+1)
	}
	// Another node finds the old keys: each has one permit left, if that can be written.
	other := open(t, s, "n2", map[string]node.Limit{"r": rule("2/1h")}, small)
	written := 0
	for i := range passed {
		more := 0
		for range 4 {
			if d, err := other.Rule("r").Take(t.Context(), key(i), 1); err == nil && d.Allowed {
				more++
			}
		}
		if written += more; more > 1 {
			t.Errorf("%d requests of client %d passed after one, want at most one", more, i)
		}
	}
	t.Logf("%d of %d old records could be replaced", written, passed)
}

// The stream grows to its configured size, for example on a larger disk, and never shrinks.
func TestStoreOnlyGrows(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	records := stream(t, s, 1<<20)
	for _, c := range []struct{ given, want int64 }{{2 << 20, 2 << 20}, {1 << 20, 2 << 20}} {
		l := open(t, s, "n1", nil, func(cfg *limit.Config) { cfg.StoreBytes = c.given })
		info, err := records.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.Config.MaxBytes != c.want {
			t.Errorf("given %d bytes, the stream may have %d, want %d", c.given, info.Config.MaxBytes, c.want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A limiter can be closed at any time, even while requests wait for the store, and more than once.
func TestCloseAtAnyTime(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	l := open(t, s, "n1", map[string]node.Limit{
		"r": rule("1000/1h"), "c": inFlight(10),
		"q": rule("1/1h", queued(time.Minute, 10)),
	})
	var running sync.WaitGroup
	for i := range 64 {
		running.Go(func() {
			for _, name := range []string{"r", "c", "q"} {
				r := l.Rule(name)
				for j := range 20 {
					_, err := r.Take(context.Background(), r.Key(fmt.Appendf(nil, "%d %d", i, j)), 1)
					if err != nil && !errors.Is(err, limit.ErrAway) {
						t.Errorf("got %v", err)
					}
				}
			}
		})
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	running.Wait()
	if d, err := l.Rule("r").Take(t.Context(), l.Rule("r").Key([]byte("after")), 1); !errors.Is(err, limit.ErrAway) {
		t.Errorf("a closed limiter said %+v, %v", d, err)
	}
	if l.Ready() {
		t.Error("a closed limiter is ready")
	}
}
