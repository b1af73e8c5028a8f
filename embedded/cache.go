package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"millrace/edge/admin"
	"millrace/kvcache"
	"millrace/node"
	"millrace/node/state"
)

// cache is the node's cache, shared by the edge and by members' values.
type cache struct {
	cfg    *node.Config
	log    *slog.Logger
	memory *memory
	state  *stateFile
	mesh   *meshConn
	disk   *disk

	kv         *kvcache.Cache            // nil before open
	purgesLost atomic.Pointer[time.Time] // when the log of purges was last lost; nil if never
}

// open allocates the cache. It stores nothing before FollowPurges.
func (c *cache) open(context.Context) error {
	cfg := c.memory.fit(c.cfg)
	kv, err := kvcache.New(kvcache.Config{
		Node: c.state.identity.ID, Name: cfg.Node.Name, NATS: c.mesh.conn.NATS(), Prefix: cfg.Mesh.Prefix,
		Replicas: replicas(&cfg.Mesh), Remote: cfg.Mesh.Leaf != nil, Alone: cfg.Mesh.Alone(),
		MemoryBytes: int64(cfg.Cache.Memory), BucketBytes: c.disk.sizes.bucket,
		Notes: purgeNotes{c.state.store}, Lost: c.lost, Log: c.log,
	})
	if err != nil {
		return fmt.Errorf("configure cache: %w", err)
	}
	c.kv = kv
	return nil
}

// lost records that the log of purges was lost.
func (c *cache) lost(why error) {
	now := time.Now()
	c.purgesLost.Store(&now)
	c.state.record("purges-lost", why.Error()+": all that was cached is invalid")
}

func (c *cache) close() error {
	if c.kv == nil {
		return nil
	}
	return c.kv.Close()
}

// FollowPurges starts to follow the log of purges. Further calls do nothing.
func (c *cache) FollowPurges(ctx context.Context) error {
	if err := c.kv.Open(ctx); err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	return nil
}

func (c *cache) status(st *admin.Status) {
	s := c.kv.Stats()
	st.Cache = admin.CacheStatus{
		Ready: s.Ready, Entries: s.Entries, MemoryBytes: s.MemoryBytes, MemoryMax: s.MemoryMax,
		BucketBytes: s.BucketBytes, BucketMax: s.BucketMax, Purges: s.Purges,
	}
}

// purgeNotes keeps, in the node's state, what the node knows of the log of purges. By it a damaged log is detected.
type purgeNotes struct{ state *state.Store }

// noteTime bounds a read or write of a note.
const noteTime = 5 * time.Second

const purgeNote = "purges"

// Load returns the note of the previous run; nil if there is none.
func (p purgeNotes) Load() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	b, err := p.state.Note(ctx, purgeNote)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// Save stores the note of this run.
func (p purgeNotes) Save(note []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	return p.state.SetNote(ctx, purgeNote, note)
}
