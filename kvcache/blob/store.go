package blob

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/node"
)

// Config configures a Store.
type Config struct {
	// Dir is the directory of this node's files; it is created. Only one Store uses it at a time.
	Dir  string
	NATS *nats.Conn // opened and closed by the caller
	// JetStream is where the stream is: nil for the one of NATS. A leaf sets one with the domain of its hub.
	JetStream jetstream.JetStream
	Prefix    string // of the mesh's subjects; may be empty
	Replicas  int    // of the stream: 1, or 3 in a cluster
	// StreamBytes is how much the blobs of the mesh may take, in bytes; 0 means 10 GiB. An existing stream follows it.
	StreamBytes int64
	// Memory is how much memory the contents of files may take, in bytes; 0 means none.
	Memory int64
	// Far is set on a node that is far from the stream. It first asks the nodes nearest to it, as NATS prefers.
	Far bool
	Log *slog.Logger
}

// Store is one node's store of blobs. Its methods are safe for concurrent use between Open and Close.
type Store struct {
	cfg    Config
	dir    directory
	table  table
	stream stream
	claims claims
	memory memory
	open   descriptors
	counts counts

	arrivals arrivals
	holders  holders
	sends    *window       // bytes of chunks that are being sent
	larges   chan struct{} // holds one for each large blob that is being sent
	asks     chan struct{} // holds one for each batch of chunks that is being fetched
	anew     chan struct{} // holds one for each wrong blob that is being fetched anew

	renaming sync.Mutex // held while a file on the disk and its place in table change together

	opened atomic.Bool
	mu     sync.Mutex // guards closed; nothing begins after it is set
	closed bool
	ctx    context.Context //nolint:containedctx // ends with the store
	stop   context.CancelCauseFunc
	tasks  sync.WaitGroup
}

// counts are what went wrong so far.
type counts struct {
	bad, failed, fetched, near atomic.Int64
}

// Stats is the state of a Store.
type Stats struct {
	Files       int   // on this node's disk
	DiskBytes   int64 // of those
	MemoryBytes int64 // contents in memory
	Open        int   // files kept open
	BadDigests  int64 // chunks and files with wrong bytes, since Open
	FetchErrors int64 // requests for chunks that failed, since Open
	Fetched     int64 // bytes of chunks fetched, since Open
	FetchedNear int64 // of those, bytes that came from other nodes' disks
}

// Limits of what is done at once.
const (
	sendBytes  = 4 << 20 // of chunks sent and not acknowledged
	sendWeight = 16 << 10
	sendLarges = 4
	fetchAsks  = 4
	fetchAnew  = 16
)

// New checks the configuration and returns a Store. Open starts it.
func New(cfg Config) (*Store, error) {
	if cfg.Dir == "" || cfg.NATS == nil || cfg.Log == nil {
		return nil, errors.New("configure blobs: directory, NATS and log are needed")
	}
	if cfg.JetStream == nil {
		js, err := jetstream.New(cfg.NATS)
		if err != nil {
			return nil, fmt.Errorf("configure blobs: %w", err)
		}
		cfg.JetStream = js
	}
	if cfg.Replicas = max(cfg.Replicas, 1); cfg.Far {
		cfg.Replicas = 0 // the stream is others': this node neither makes nor changes it
	}
	if cfg.StreamBytes <= 0 {
		cfg.StreamBytes = 10 << 30
	}
	s := &Store{
		cfg: cfg, dir: directory{path: cfg.Dir}, sends: newWindow(sendBytes),
		larges: make(chan struct{}, sendLarges), asks: make(chan struct{}, fetchAsks),
		anew: make(chan struct{}, fetchAnew),
	}
	s.stream, s.claims = newStream(&s.cfg), newClaims(&s.cfg)
	s.memory.limit = cfg.Memory
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	return s, nil
}

// Open reads the directory. It doesn't wait for NATS: what is on the disk is served without. Its errors are those of
// the disk.
func (s *Store) Open(context.Context) error {
	files, clean, err := s.dir.open()
	if err != nil {
		return fmt.Errorf("open blobs: %w", err)
	}
	s.table.fill(files, clean)
	if err := s.hold(); err != nil {
		return fmt.Errorf("open blobs: %w", err)
	}
	s.opened.Store(true)
	if !clean && len(files) > 0 {
		s.cfg.Log.Info("the files of blobs are read again: the node wasn't stopped, or the machine has started anew",
			slog.Int("files", len(files)))
		s.spawn(s.recheck)
	}
	return nil
}

// Close stops what runs, waits for it, and closes the files. Files of which descriptors are held stay open until they
// are released.
func (s *Store) Close() error {
	s.mu.Lock()
	done := s.closed
	s.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	s.letGo()
	s.stop(ErrClosed)
	s.tasks.Wait()
	s.open.closeAll()
	if s.opened.Load() && s.table.allChecked() {
		if err := s.dir.markClean(); err != nil {
			return fmt.Errorf("close blobs: %w", err)
		}
	}
	return nil
}

// spawn runs f in the background until it returns, and reports whether it does: not after Close. f ends with s.ctx.
func (s *Store) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tasks.Go(f)
	return true
}

// begin returns a context that ends with ctx and with the store. After Close it fails with ErrClosed.
func (s *Store) begin(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.opened.Load() {
		return nil, nil, ErrClosed
	}
	s.tasks.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(s.ctx, func() { cancel(ErrClosed) })
	return ctx, func() {
		unhook()
		cancel(nil)
		s.tasks.Done()
	}, nil
}

// Stats returns the state of the store.
func (s *Store) Stats() Stats {
	files, bytes := s.table.totals()
	return Stats{
		Files: files, DiskBytes: bytes, MemoryBytes: s.memory.bytes(), Open: s.open.count(),
		BadDigests: s.counts.bad.Load(), FetchErrors: s.counts.failed.Load(), Fetched: s.counts.fetched.Load(),
		FetchedNear: s.counts.near.Load(),
	}
}

// Has reports whether a blob is whole on this node's disk. Its content was right when it was written; after an unclean
// end it is read again before its first use.
func (s *Store) Has(b node.Blob) bool { return s.table.has(b.Digest, b.Size) }
