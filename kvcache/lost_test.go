package kvcache_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// memoryNotes keeps a note in memory.
type memoryNotes struct {
	mu     sync.Mutex // guards what follows
	note   []byte
	failed error
	saves  int
}

func (n *memoryNotes) Load() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.note, nil
}

func (n *memoryNotes) Save(note []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed != nil {
		return n.failed
	}
	n.saves++
	n.note = note
	return nil
}

// fail makes Save fail with err, unless it is nil.
func (n *memoryNotes) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed = err
}

// withNotes makes a cache save notes, and counts the reported losses.
func withNotes(n *memoryNotes, lost *int) func(*kvcache.Config) {
	return func(c *kvcache.Config) { c.Notes, c.Lost = n, func(error) { *lost++ } }
}

// randomPurge returns one of a few purges, so that many replace others.
func randomPurge() kvcache.Purge {
	reaches := []kvcache.Reach{
		kvcache.ReachURL, kvcache.ReachHost, kvcache.ReachTag, kvcache.ReachPrefix,
		kvcache.ReachAll,
	}
	p := kvcache.Purge{Reach: reaches[rand.IntN(len(reaches))], Soft: rand.IntN(2) == 0}
	if p.Reach != kvcache.ReachAll {
		p.Text = fmt.Sprintf("http://a.example/%d", rand.IntN(10))
	}
	return p
}

// A complete log is never reported as damaged, whenever the node was killed: the note may be as old as the last purge
// that waited for it, and newer purges may have replaced those that it covers.
func TestCompleteLogIsNeverReported(t *testing.T) {
	s := natsservertest.Start(t)
	notes, lost := &memoryNotes{}, 0
	var incarnation uint64
	for round := range 8 {
		c := open(t, s, "n1", withNotes(notes, &lost))
		if got := c.Epoch().Incarnation; incarnation != 0 && got != incarnation {
			t.Fatalf("round %d: the log was made anew", round)
		}
		incarnation = c.Epoch().Incarnation
		for i := range 60 {
			if i == 30 {
				notes.fail(errors.New("killed before")) // killed before the note was saved
			}
			purge(t, c, i < 30 && i%3 == 0, randomPurge())
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		notes.fail(nil)
	}
	if lost != 0 {
		t.Errorf("%d times a log that is whole was said to have lost some", lost)
	}
}

// A purge that waits for all nodes is noted when it returns; many at once need few saves. If it can't be noted, it
// fails.
func TestPurgeIsNotedWhenItReturns(t *testing.T) {
	notes, lost := &memoryNotes{}, 0
	c := open(t, natsservertest.Start(t), "n1", withNotes(notes, &lost))
	const purges = 200
	var running sync.WaitGroup
	for i := range purges {
		running.Go(func() {
			purge(t, c, true, kvcache.Purge{Reach: kvcache.ReachTag, Text: fmt.Sprint("t", i)})
		})
	}
	running.Wait()
	notes.mu.Lock()
	saves := notes.saves
	notes.mu.Unlock()
	t.Logf("%d purges at once were noted by %d writes", purges, saves)
	notes.fail(errors.New("the disk is full"))
	all := []kvcache.Purge{{Reach: kvcache.ReachAll}}
	if _, err := c.Purge(t.Context(), all, true); !errors.Is(err, kvcache.ErrUnnoted) ||
		errors.Is(err, kvcache.ErrAway) ||
		!strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("a purge that can't be noted: %v", err)
	}
	notes.fail(nil)
	purge(t, c, true, kvcache.Purge{Reach: kvcache.ReachAll})
}

// A log that is deleted under three running nodes is created again, once. All nodes find it, their entries are invalid,
// and purges work everywhere.
func TestDeletedLogIsCreatedOnce(t *testing.T) {
	servers := natsservertest.StartThree(t)
	var nodes [3]*kvcache.Cache
	for i, s := range servers {
		lost := 0
		three := func(c *kvcache.Config) { c.Replicas = 3 }
		nodes[i] = open(t, s, fmt.Sprintf("n%d", i+1), shared, withNotes(&memoryNotes{}, &lost), three)
	}
	js, err := jetstream.New(natsservertest.Connect(t, servers[0], func(c *mesh.Config) { c.Name = "js" }).NATS())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		purge(t, nodes[0], true, kvcache.Purge{Reach: kvcache.ReachTag, Text: "x"})
	}
	for _, c := range nodes {
		c.Put(entry(c, "http://a.example/", "a.example", "t", "v"), kvcache.MemoryOnly)
	}
	before := nodes[0].Epoch().Incarnation
	if err := js.DeleteStream(t.Context(), "KV_millrace-purges"); err != nil {
		t.Fatal(err)
	}
	for i, c := range nodes {
		nodetest.Eventually(t, fmt.Sprintf("n%d follows another log", i+1), func() bool {
			now := c.Epoch().Incarnation
			return now != 0 && now != before && c.Leased()
		})
		if got := validity(c, "http://a.example/"); got != kvcache.Invalid {
			t.Errorf("n%d: what was stored before is %d", i+1, got)
		}
	}
	var after uint64
	nodetest.Eventually(t, "all follow the same log", func() bool {
		after = nodes[0].Epoch().Incarnation
		return nodes[1].Epoch().Incarnation == after && nodes[2].Epoch().Incarnation == after
	})
	for i, c := range nodes {
		c.Put(entry(c, "http://a.example/", "a.example", "t", "v"), kvcache.MemoryOnly)
		done := purge(t, nodes[(i+1)%3], true, kvcache.Purge{Reach: kvcache.ReachTag, Text: "t"})
		if got := validity(c, "http://a.example/"); got != kvcache.Invalid {
			t.Errorf("n%d: what was purged is %d", i+1, got)
		}
		if len(done.Nodes) != 3 {
			t.Errorf("the purge waited for %+v", done.Nodes)
		}
	}
	if now := nodes[0].Epoch().Incarnation; now != after {
		t.Error("the log was made anew again")
	}
}

// A node that finds another log than it followed before, in this run or an earlier one, reports once that all entries
// are invalid. At a first start, and in the run after it, it reports nothing.
func TestReplacedLogIsReportedOnce(t *testing.T) {
	s := natsservertest.Start(t)
	notes, lost := &memoryNotes{}, 0
	js, err := jetstream.New(natsservertest.Connect(t, s, func(c *mesh.Config) { c.Name = "js" }).NATS())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{0, 0, 1, 1} {
		if want == 1 && lost == 0 {
			if err := js.DeleteStream(t.Context(), "KV_millrace-purges"); err != nil {
				t.Fatal(err)
			}
		}
		c := open(t, s, "n1", withNotes(notes, &lost))
		purge(t, c, true, kvcache.Purge{Reach: kvcache.ReachTag, Text: "x"})
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if lost != want {
			t.Fatalf("told %d times, want %d", lost, want)
		}
	}
}
