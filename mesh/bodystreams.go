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
	"millrace/node/http1"
)

// Bounds of streams. A stream holds at most its window of unread bytes. Windows grow out of one pool.
const (
	maxBodyStreams = 16384     // bodyStreams of a connection at once
	baseWindow     = 16 << 10  // bytes that every stream may have unread
	maxWindow      = 1 << 20   // bytes that one stream may have unread at most
	windowPool     = 32 << 20  // bytes that all windows together may have beyond baseWindow
	streamRoot     = "stream." // begins the subjects that streams are sent to
)

// Every stream is probed each probeEvery. When members or nodes are gone it is probed at once, but not again within
// probePause. A member waits for the first credit of its answer for firstCreditWithin.
const (
	probeEvery        = 5 * time.Second
	probePause        = 250 * time.Millisecond
	firstCreditWithin = 15 * time.Second
)

// bodyStreams holds the body streams of one connection, by token. They use a NATS connection of their own, so that long
// bodies don't delay short messages.
type bodyStreams struct {
	nc       *nats.Conn
	log      *slog.Logger
	prefix   string // messages to PREFIX.TOKEN arrive here
	root     string // prefix of the subjects of every node's streams
	skipNATS bool   // messages for a stream of this process skip NATS
	idle     atomic.Int64
	pool     atomic.Int64 // bytes that windows may still grow by

	mu      sync.Mutex // guards byToken and closed
	byToken map[string]*bodyStream
	closed  bool

	probeNow    chan struct{} // capacity 1; signaled when a member or node is gone
	stop        chan struct{}
	probesEnded chan struct{} // closed when probeLoop has returned
}

func newBodyStreams(prefix string, skipNATS bool, log *slog.Logger) *bodyStreams {
	b := &bodyStreams{log: log, skipNATS: skipNATS, byToken: map[string]*bodyStream{}, root: prefix + streamRoot}
	b.probeNow, b.stop, b.probesEnded = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	b.prefix = b.root + rand.Text()
	b.pool.Store(windowPool)
	return b
}

// open registers a new stream, initialized by set. It returns nil if there are maxBodyStreams already.
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

func (b *bodyStreams) remove(s *bodyStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byToken, s.token)
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
	} else if b.validPeer(msg.Reply) { // the sender doesn't know that the stream has ended
		// Not on this goroutine, which may be a local sender's: abort may end the peer, which may wait for that sender.
		go b.abort(msg.Reply, errEnded)
	}
}

// send publishes a message of a stream. A message for a stream of this process is dispatched without NATS, in the same
// order, unless configured otherwise. Its payload is copied, as NATS would.
func (b *bodyStreams) send(msg *nats.Msg) error {
	if !b.skipNATS || !strings.HasPrefix(msg.Subject, b.prefix) {
		return b.nc.PublishMsg(msg)
	}
	own := *msg
	var pooled *[]byte
	if msg.Header[headerChunk] != nil && len(msg.Data) > pooledFrom {
		pooled = pieces.Get().(*[]byte)
		*pooled = append((*pooled)[:0], msg.Data...)
		own.Data = *pooled
	} else {
		own.Data = bytes.Clone(msg.Data)
	}
	b.dispatch(&own, pooled)
	return nil
}

// pieces holds buffers of maxPiece bytes. Chunks of up to pooledFrom bytes get memory of their own.
var pieces = sync.Pool{New: func() any { b := make([]byte, 0, maxPiece); return &b }}

const pooledFrom = 128 << 10

var errEnded = node.Errorf(node.CodeCanceled, nil, "the exchange has ended")

// validPeer reports whether a message's reply subject is one that a stream may publish to: a node's stream or an inbox.
// Streams publish to no other subjects.
func (b *bodyStreams) validPeer(subject string) bool {
	if len(subject) > 200 || (!strings.HasPrefix(subject, b.root) && !strings.HasPrefix(subject, "_INBOX")) {
		return false
	}
	for i := range len(subject) {
		if c := subject[i]; !http1.IsToken(c) || c == '*' ||
			(c == '.' && (i+1 == len(subject) || subject[i+1] == '.')) {
			return false
		}
	}
	return true
}

// probeLoop probes every stream periodically until close. It is the only timer of all streams.
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
			select { // further departures are handled after a pause
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

// probeSoon makes probeLoop probe every stream soon.
func (b *bodyStreams) probeSoon() { signal(b.probeNow) }

// connectionLost ends every stream, since messages were lost with the connection.
func (b *bodyStreams) connectionLost() {
	for _, s := range b.all() {
		s.end(node.Errorf(node.CodeUnavailable, nil, "the mesh connection was lost"), false)
	}
}

// close ends every stream and prevents new ones.
func (b *bodyStreams) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.connectionLost()
	close(b.stop)
	<-b.probesEnded
}

// abort tells a peer that this side has ended, and why.
func (b *bodyStreams) abort(peer string, why *node.Error) {
	msg := &nats.Msg{Subject: peer, Header: nats.Header{headerAbort: {string(why.Code)}, headerErrorText: {why.Text}}}
	_ = b.send(msg) // fails only without a connection, which ends the peer's side too
}

// borrowWindow takes n bytes for a window from the pool and reports whether it could. A reserve stays, so that stalled
// streams don't starve the others.
func (b *bodyStreams) borrowWindow(n int64) bool {
	const reserve = 4 // a window may grow by at most a quarter of what is free
	if free := b.pool.Load(); free < reserve*n || !b.pool.CompareAndSwap(free, free-n) {
		return false
	}
	return true
}
