package mesh

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// Bounds of streams. A stream holds at most its window of unread bytes; windows grow out of one pool.
const (
	maxBodyStreams = 16384     // exchanges with streams at once
	baseWindow     = 16 << 10  // what every stream may have unread
	maxWindow      = 1 << 20   // what a fast one may
	windowPool     = 32 << 20  // what all windows together have beyond baseWindow
	streamRoot     = "stream." // begins the subjects that streams are sent to
)

// keepEvery is how often links are looked at, lookEvery how often at most when members or nodes are gone; creditWait
// how long a member waits for the first credit of its answer.
const (
	probeEvery        = 5 * time.Second
	probePause        = 250 * time.Millisecond
	firstCreditWithin = 15 * time.Second
)

// links are the exchanges with streams of one connection, by token. They have a NATS connection of their own, so that
// bodies don't stand in the way of small messages.
type bodyStreams struct {
	nc       *nats.Conn
	log      *slog.Logger
	prefix   string // subjects PREFIX.TOKEN lead here
	root     string // begins the subjects of every node's streams
	skipNATS bool   // both ends of a stream may be in this process: then its messages skip NATS
	idle     atomic.Int64
	pool     atomic.Int64 // bytes that windows may still grow by

	mu      sync.Mutex
	byToken map[string]*bodyStream
	closed  bool

	probeNow    chan struct{} // has room for one: somebody is gone
	stop        chan struct{}
	probesEnded chan struct{} // closed when keep has ended
}

func newBodyStreams(prefix string, local bool, log *slog.Logger) *bodyStreams {
	t := &bodyStreams{log: log, skipNATS: local, byToken: map[string]*bodyStream{}, root: prefix + streamRoot}
	t.probeNow, t.stop, t.probesEnded = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	t.prefix = t.root + rand.Text()
	t.pool.Store(windowPool)
	return t
}

// open makes a link as set says; nil when there are as many as may be.
func (b *bodyStreams) open(set func(*bodyStream)) *bodyStream {
	s := &bodyStream{set: b, token: rand.Text(), done: make(chan struct{})}
	s.subject = b.prefix + "." + s.token
	s.in.wake, s.out.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	s.touch()
	set(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.byToken) >= maxBodyStreams {
		return nil
	}
	b.byToken[s.token] = s
	return s
}

func (b *bodyStreams) remove(l *bodyStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byToken, l.token)
}

func (b *bodyStreams) find(subject string) *bodyStream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byToken[subject[strings.LastIndexByte(subject, '.')+1:]]
}

func (b *bodyStreams) all() []*bodyStream {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*bodyStream, 0, len(b.byToken))
	for _, s := range b.byToken {
		out = append(out, s)
	}
	return out
}

func (b *bodyStreams) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.byToken)
}

// deliver is the subscription's callback: it never blocks.
func (b *bodyStreams) deliver(msg *nats.Msg) { b.dispatch(msg, nil) }

func (b *bodyStreams) dispatch(msg *nats.Msg, pooled *[]byte) {
	if s := b.find(msg.Subject); s != nil {
		s.receive(msg, pooled)
	} else if b.validPeer(msg.Reply) { // the other side believes in an exchange that has ended
		go b.abort(msg.Reply, errEnded) // not here: whoever sent this may be what the other side's end waits for
	}
}

// send publishes a message of a stream. What is for a link of this process goes there without NATS, in the same order,
// unless that is not wanted; its payload is copied, as NATS would.
func (b *bodyStreams) send(msg *nats.Msg) error {
	if !b.skipNATS || !strings.HasPrefix(msg.Subject, b.prefix) {
		return b.nc.PublishMsg(msg) //nolint:wrapcheck // the callers say what was sent
	}
	own := *msg
	var pooled *[]byte
	if msg.Header[headerChunk] != nil && len(msg.Data) > pooledFrom {
		pooled = pieces.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
		*pooled = append((*pooled)[:0], msg.Data...)
		own.Data = *pooled
	} else {
		own.Data = bytes.Clone(msg.Data)
	}
	b.dispatch(&own, pooled)
	return nil
}

// pieces are buffers of maxPiece bytes; a chunk of up to pooledFrom bytes has memory of its own.
var pieces = sync.Pool{New: func() any { b := make([]byte, 0, maxPiece); return &b }}

const pooledFrom = 128 << 10

var errEnded = node.Errorf(node.CodeCanceled, nil, "the exchange has ended")

// mayBePeer reports whether a subject that a message came with is one where streams go: a node's or an inbox.
// Nothing else is ever published to.
func (b *bodyStreams) validPeer(subject string) bool {
	if len(subject) > 200 || (!strings.HasPrefix(subject, b.root) && !strings.HasPrefix(subject, "_INBOX")) {
		return false
	}
	for i := range len(subject) {
		if c := subject[i]; byteClass[c]&isToken == 0 || c == '*' ||
			(c == '.' && (i+1 == len(subject) || subject[i+1] == '.')) {
			return false
		}
	}
	return true
}

// keep looks at every link now and then, until the connection is closed. It is the one timer of all streams.
func (b *bodyStreams) probeLoop() {
	defer close(b.probesEnded)
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-tick.C:
			b.probeAll()
		case <-b.probeNow:
			b.probeAll()
			select { // who goes after others is found a moment later
			case <-b.stop:
				return
			case <-time.After(probePause):
			}
		}
	}
}

func (b *bodyStreams) probeAll() {
	for _, s := range b.all() {
		s.probe(time.Duration(b.idle.Load()))
	}
}

// probe lets every link ask after its peer soon.
func (b *bodyStreams) probeSoon() { signal(b.probeNow) }

// lost ends every link: the connection is away, and what was on its way with it.
func (b *bodyStreams) connectionLost() {
	for _, s := range b.all() {
		s.end(node.Errorf(node.CodeUnavailable, nil, "the mesh connection was lost"), false)
	}
}

// close ends every link and lets no more begin.
func (b *bodyStreams) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.connectionLost()
	close(b.stop)
	<-b.probesEnded
}

// abort tells a peer that nothing more will come from here, nor be taken.
func (b *bodyStreams) abort(peer string, why *node.Error) {
	msg := &nats.Msg{Subject: peer, Header: nats.Header{headerAbort: {string(why.Code)}, headerErrorText: {why.Text}}}
	_ = b.send(msg) // fails only without a connection, which ends the peer's side too
}

// widen takes n more bytes for a window out of the pool, unless little is left: stalled streams must not starve the
// others.
func (b *bodyStreams) borrowWindow(n int64) bool {
	const reserve = 4 // a window may grow by at most a quarter of what is free
	if free := b.pool.Load(); free < reserve*n || !b.pool.CompareAndSwap(free, free-n) {
		return false
	}
	return true
}
