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
	maxLinks   = 16384     // exchanges with streams at once
	baseWindow = 16 << 10  // what every stream may have unread
	maxWindow  = 1 << 20   // what a fast one may
	windowPool = 32 << 20  // what all windows together have beyond baseWindow
	streamRoot = "stream." // begins the subjects that streams are sent to
)

// keepEvery is how often links are looked at, lookEvery how often at most when members or nodes are gone; creditWait
// how long a member waits for the first credit of its answer.
const (
	keepEvery  = 5 * time.Second
	lookEvery  = 250 * time.Millisecond
	creditWait = 15 * time.Second
)

// links are the exchanges with streams of one connection, by token. They have a NATS connection of their own, so that
// bodies don't stand in the way of small messages.
type links struct {
	nc     *nats.Conn
	log    *slog.Logger
	prefix string // subjects PREFIX.TOKEN lead here
	root   string // begins the subjects of every node's streams
	local  bool   // both ends of a stream may be in this process: then its messages skip NATS
	idle   atomic.Int64
	pool   atomic.Int64 // bytes that windows may still grow by

	mu      sync.Mutex
	byToken map[string]*link
	closed  bool

	look chan struct{} // has room for one: somebody is gone
	stop chan struct{}
	kept chan struct{} // closed when keep has ended
}

func newLinks(prefix string, local bool, log *slog.Logger) *links {
	t := &links{log: log, local: local, byToken: map[string]*link{}, root: prefix + streamRoot}
	t.look, t.stop, t.kept = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	t.prefix = t.root + rand.Text()
	t.pool.Store(windowPool)
	return t
}

// open makes a link as set says; nil when there are as many as may be.
func (t *links) open(set func(*link)) *link {
	l := &link{t: t, token: rand.Text(), done: make(chan struct{})}
	l.local = t.prefix + "." + l.token
	l.in.wake, l.out.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	l.touch()
	set(l)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.byToken) >= maxLinks {
		return nil
	}
	t.byToken[l.token] = l
	return l
}

func (t *links) remove(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byToken, l.token)
}

func (t *links) find(subject string) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byToken[subject[strings.LastIndexByte(subject, '.')+1:]]
}

func (t *links) all() []*link {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*link, 0, len(t.byToken))
	for _, l := range t.byToken {
		out = append(out, l)
	}
	return out
}

func (t *links) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byToken)
}

// deliver is the subscription's callback: it never blocks.
func (t *links) deliver(msg *nats.Msg) { t.dispatch(msg, nil) }

func (t *links) dispatch(msg *nats.Msg, pooled *[]byte) {
	if l := t.find(msg.Subject); l != nil {
		l.receive(msg, pooled)
	} else if t.mayBePeer(msg.Reply) { // the other side believes in an exchange that has ended
		go t.abort(msg.Reply, errEnded) // not here: whoever sent this may be what the other side's end waits for
	}
}

// send publishes a message of a stream. What is for a link of this process goes there without NATS, in the same order,
// unless that is not wanted; its payload is copied, as NATS would.
func (t *links) send(msg *nats.Msg) error {
	if !t.local || !strings.HasPrefix(msg.Subject, t.prefix) {
		return t.nc.PublishMsg(msg) //nolint:wrapcheck // the callers say what was sent
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
	t.dispatch(&own, pooled)
	return nil
}

// pieces are buffers of maxPiece bytes; a chunk of up to pooledFrom bytes has memory of its own.
var pieces = sync.Pool{New: func() any { b := make([]byte, 0, maxPiece); return &b }}

const pooledFrom = 128 << 10

var errEnded = node.Errorf(node.CodeCanceled, nil, "the exchange has ended")

// mayBePeer reports whether a subject that a message came with is one where streams go: a node's or an inbox.
// Nothing else is ever published to.
func (t *links) mayBePeer(subject string) bool {
	if len(subject) > 200 || (!strings.HasPrefix(subject, t.root) && !strings.HasPrefix(subject, "_INBOX")) {
		return false
	}
	for i := range len(subject) {
		if c := subject[i]; class[c]&isToken == 0 || c == '*' ||
			(c == '.' && (i+1 == len(subject) || subject[i+1] == '.')) {
			return false
		}
	}
	return true
}

// keep looks at every link now and then, until the connection is closed. It is the one timer of all streams.
func (t *links) keep() {
	defer close(t.kept)
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.keepAll()
		case <-t.look:
			t.keepAll()
			select { // who goes after others is found a moment later
			case <-t.stop:
				return
			case <-time.After(lookEvery):
			}
		}
	}
}

func (t *links) keepAll() {
	for _, l := range t.all() {
		l.keep(time.Duration(t.idle.Load()))
	}
}

// probe lets every link ask after its peer soon.
func (t *links) probe() { signal(t.look) }

// lost ends every link: the connection is away, and what was on its way with it.
func (t *links) lost() {
	for _, l := range t.all() {
		l.end(node.Errorf(node.CodeUnavailable, nil, "the mesh connection was lost"), false)
	}
}

// close ends every link and lets no more begin.
func (t *links) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.lost()
	close(t.stop)
	<-t.kept
}

// abort tells a peer that nothing more will come from here, nor be taken.
func (t *links) abort(peer string, why *node.Error) {
	msg := &nats.Msg{Subject: peer, Header: nats.Header{headerAbort: {string(why.Code)}, headerErrorText: {why.Text}}}
	_ = t.send(msg) // fails only without a connection, which ends the peer's side too
}

// widen takes n more bytes for a window out of the pool, unless little is left: stalled streams must not starve the
// others.
func (t *links) widen(n int64) bool {
	const reserve = 4 // a window may grow by at most a quarter of what is free
	if free := t.pool.Load(); free < reserve*n || !t.pool.CompareAndSwap(free, free-n) {
		return false
	}
	return true
}
