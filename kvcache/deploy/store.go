package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache"
	"millrace/kvcache/blob"
	"millrace/node"
)

// Config is what New needs.
type Config struct {
	Node     string // id of this node
	Name     string // its name
	NATS     *nats.Conn
	Prefix   string // of the mesh's subjects, with its final dot
	Replicas int    // of the bucket; 0 if it is others', so that this node neither makes nor changes it
	Far      bool   // this node is a leaf, whose link to the bucket may be cut in silence
	Blobs    Blobs
	Notes    Notes
	Peers    func() []Peer // the nodes of the mesh, this one included
	Fill     node.Fill     // which files must be here before a deploy is ready; empty for all
	// Event is called when something happened to a site: "staged", "live" or "deleted". It is called by one goroutine,
	// which waits for nothing else but Notes.
	Event func(e Event)
	Now   func() time.Time // the wall clock; nil for time.Now
	Log   *slog.Logger
}

// Blobs is what this package needs of the node's blobs.
type Blobs interface {
	Has(b node.Blob) bool
	Upload() *blob.Upload
	PutBytes(ctx context.Context, data []byte) (node.Blob, error)
	Missing(ctx context.Context, blobs []node.Blob) ([]node.Blob, error)
	Bring(ctx context.Context, blobs []node.Blob, progress func(bytes int64)) error
	ReadAll(ctx context.Context, b node.Blob) ([]byte, error)
	Sweep(keep func(node.Digest) bool) (removed int, bytes int64)
	Collect(ctx context.Context, keep func(node.Digest) bool, grace time.Duration) (bytes int64, err error)
}

var _ Blobs = (*blob.Store)(nil)

// Notes keeps what a node serves over a restart.
type Notes interface {
	Load() ([]byte, error) // nil if there is no note
	Save(note []byte) error
}

// Peer is a node of the mesh.
type Peer struct {
	ID    string
	Name  string
	Alive bool
}

// Event is something that happened to a site on this node.
type Event struct {
	Site string      `json:"site"`
	What string      `json:"what"`
	ID   node.Digest `json:"id"`
	Node string      `json:"node"`
	At   time.Time   `json:"at"`
}

// Store follows the deploys of all sites and changes them. Its methods are safe for concurrent use after Open.
type Store struct {
	cfg    Config
	js     jetstream.JetStream
	bucket *bucket

	following atomic.Bool // the bucket is followed; see Follow
	commands  chan func(*follower)
	pending   pending
	sweeping  sync.RWMutex       // held for writing by Sweep, for reading while a deploy is brought
	stop      context.CancelFunc // nil before Open
	closed    chan struct{}      // closed by Close
	closing   sync.Once
	ended     sync.WaitGroup

	// What tests change before Open.
	grace     time.Duration // for which a blob stays that no deploy names
	leave     time.Duration // from the decision that a deploy needn't be kept to its deletion
	ready     time.Duration // for which a change waits until the nodes have a deploy
	fullFiles int           // see the constant

	mu    sync.Mutex       // guards sites
	sites map[string]*Site // by name; entries stay
}

// maxCommands bounds the calls that wait for the goroutine that follows the bucket. Callers wait when it is full.
const maxCommands = 64

// New returns a store that does nothing yet; see Open.
func New(cfg Config) (*Store, error) {
	if cfg.NATS == nil || cfg.Blobs == nil || cfg.Notes == nil || cfg.Peers == nil || cfg.Log == nil {
		return nil, errors.New("configure deploys: a connection, blobs, notes, peers and a log are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Event == nil {
		cfg.Event = func(Event) {}
	}
	js, err := jetstream.New(cfg.NATS)
	if err != nil {
		return nil, fmt.Errorf("configure deploys: %w", err)
	}
	return &Store{
		cfg: cfg, js: js, bucket: &bucket{cfg: &cfg, js: js, name: kvcache.BucketName(cfg.Prefix, "sites")},
		commands: make(chan func(*follower), maxCommands), closed: make(chan struct{}), sites: map[string]*Site{},
		grace: collectGrace, leave: leaveTime, ready: readyWait, fullFiles: fullFiles,
	}, nil
}

// Open loads what the node served before, which needs no connection, and answers other nodes' questions. sites are the
// settings of the sites by name; a site that isn't among them has the default settings. Follow starts the rest.
func (s *Store) Open(_ context.Context, sites map[string]node.Site) error {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	f := newFollower(s, sites)
	f.restore(ctx)
	questions, err := s.subscribe()
	if err != nil {
		stop()
		return fmt.Errorf("open deploys: %w", err)
	}
	f.aside.open()
	s.ended.Go(func() {
		defer func() { _ = questions.sub.Unsubscribe() }() // fails only on a closed connection
		f.run(ctx, questions.messages)
	})
	return nil
}

// Close stops. The sites keep their last state.
func (s *Store) Close() error {
	if s.stop != nil {
		s.closing.Do(func() { close(s.closed) })
		s.stop()
		s.ended.Wait()
	}
	return nil
}

// Follow starts to follow the bucket, and makes it if it isn't there. Further calls do nothing.
func (s *Store) Follow() { s.following.Store(true) }

// Follows reports whether Follow was called.
func (s *Store) Follows() bool { return s.following.Load() }

// Site returns a site. It is the same for each call with that name, whether or not anything was published there.
func (s *Store) Site(name string) *Site {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sites[name]
	if out == nil {
		out = newSite(name)
		s.sites[name] = out
	}
	return out
}

// SetSites replaces the settings of the sites, after a reload. What they change of what is served changes soon after:
// the indexes are made again in the background.
func (s *Store) SetSites(ctx context.Context, sites map[string]node.Site) error {
	return s.do(ctx, func(f *follower) { f.setSettings(sites) })
}

// errClosed means that the store is closed, or not open yet.
var errClosed = errors.New("deploys are closed")

// do runs a function in the goroutine that follows the bucket, and returns when it has run.
func (s *Store) do(ctx context.Context, run func(*follower)) error {
	done := make(chan struct{})
	select {
	case s.commands <- func(f *follower) { defer close(done); run(f) }:
	case <-s.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-s.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
