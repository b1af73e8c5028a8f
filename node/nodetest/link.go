package nodetest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Link relays TCP connections to one address and delays what they carry, as the distance between two places does. It
// can be cut: then nothing passes, and nobody is told. It is safe for concurrent use.
type Link struct {
	listener net.Listener
	target   string
	delay    time.Duration
	ended    sync.WaitGroup
	stop     chan struct{}

	mu     sync.Mutex // guards what follows
	open   chan struct{}
	conns  map[net.Conn]bool
	closed bool
}

// piece is what a connection has carried at once, and when it arrives.
type piece struct {
	data []byte
	due  time.Time
}

// maxPieces bounds what is under way on a connection in one direction: 64 pieces of at most 32 KiB.
const (
	maxPieces = 64
	pieceSize = 32 << 10
)

// NewLink starts a link to the address until the test ends. delay is how long each direction takes.
func NewLink(tb testing.TB, target string, delay time.Duration) *Link {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &Link{
		listener: listener, target: target, delay: delay, stop: make(chan struct{}), open: make(chan struct{}),
		conns: map[net.Conn]bool{},
	}
	close(l.open)
	l.ended.Go(l.accept)
	tb.Cleanup(l.close)
	return l
}

// Addr is where the link begins.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Cut lets nothing pass until Heal. Connections stay open, and new ones are accepted but lead nowhere.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
		l.open = make(chan struct{})
	default:
	}
}

// Heal lets everything pass again. What was sent on connections that are still open arrives then.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

// Break ends all connections. New ones pass.
func (l *Link) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // nothing more is sent
	}
}

func (l *Link) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	_ = l.listener.Close() // ends accept
	l.Break()
	l.ended.Wait()
}

// passes returns the channel that is closed while the link isn't cut.
func (l *Link) passes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.ended.Go(func() { l.relay(near) })
	}
}

// keep remembers a connection for Break. It reports whether the link is still open.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return !l.closed
}

func (l *Link) forget(c net.Conn) {
	_ = c.Close() // both directions end
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *Link) relay(near net.Conn) {
	defer l.forget(near)
	if !l.keep(near) {
		return
	}
	select {
	case <-l.passes():
	case <-l.stop:
		return
	}
	far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.target)
	if err != nil {
		return
	}
	defer l.forget(far)
	if !l.keep(far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.carry(near, far) })
	both.Go(func() { l.carry(far, near) })
	both.Wait()
}

// carry takes what one side sends to the other, delayed. It ends both when one of them ends.
func (l *Link) carry(from, to net.Conn) {
	pieces := make(chan piece, maxPieces)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(pieces)
		for {
			b := make([]byte, pieceSize)
			n, err := from.Read(b)
			if n > 0 {
				select {
				case pieces <- piece{b[:n], time.Now().Add(l.delay)}:
				case <-l.stop:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for p := range pieces {
		if !l.await(p.due) {
			break
		}
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	_, _ = from.Close(), to.Close()
	for range pieces { // until the reader has seen the end
		continue
	}
	reading.Wait()
}

// await waits until a piece is due and the link isn't cut. It reports whether the link is still there.
func (l *Link) await(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.stop:
		return false
	}
	select {
	case <-l.passes():
		return true
	case <-l.stop:
		return false
	}
}
