package main

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// link is a TCP proxy that can be frozen or closed.
type link struct {
	addr string

	mu      sync.Mutex // guards what follows
	state   linkState
	changed chan struct{} // closed and replaced when the state changes
	conns   map[net.Conn]bool
}

// linkState says what a link does with its connections.
type linkState int

const (
	linkOpen   linkState = iota
	linkFrozen           // data is held back until the link is open again
	linkClosed           // connections end, and new ones are refused
)

func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: listener.Addr().String(), changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { l.carry(ctx, from, to) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		l.set(linkClosed)
		running.Wait()
	})
	return l
}

// set changes the state of the link.
func (l *link) set(s linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
	if s == linkClosed {
		for conn := range l.conns {
			_ = conn.Close()
		}
	}
}

// add adds a connection that ends when the link is closed.
func (l *link) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkClosed {
		_ = conn.Close()
		return false
	}
	l.conns[conn] = true
	return true
}

func (l *link) drop(conn net.Conn) {
	_ = conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// open waits until the link is open. It returns false if the link has ended.
func (l *link) open(ctx context.Context) bool {
	for {
		l.mu.Lock()
		state, changed := l.state, l.changed
		l.mu.Unlock()
		if state == linkOpen {
			return true
		}
		if state == linkClosed {
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// carry copies data both ways until one side or the link ends.
func (l *link) carry(ctx context.Context, from net.Conn, to string) {
	if !l.add(from) {
		return
	}
	defer l.drop(from)
	if !l.open(ctx) {
		return
	}
	onward, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", to)
	if err != nil || !l.add(onward) {
		return
	}
	defer l.drop(onward)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, onward}, {onward, from}} {
		both.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buf)
				if err != nil || !l.open(ctx) {
					return
				}
				if _, err := way[1].Write(buf[:n]); err != nil {
					return
				}
			}
		})
	}
	both.Wait()
}

// A frozen link delivers data later, and a closed one delivers nothing.
func TestLink(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	got := make(chan string, 4)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(conn)
			got <- string(b)
		}
	}()
	l := newLink(t, server.Addr().String())
	say := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.addr)
		if err == nil {
			_, err = io.WriteString(conn, "hello")
		}
		if err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatal(err)
		}
		return conn
	}
	l.set(linkFrozen)
	conn := say()
	nodetest.Eventually(t, "the link has the connection", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns) == 1
	})
	l.set(linkOpen)
	nodetest.Eventually(t, "the link has gone on", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns) == 2
	})
	conn.(*net.TCPConn).CloseWrite()
	if b := <-got; b != "hello" {
		t.Errorf("after it was frozen it carried %q", b)
	}
	l.set(linkClosed)
	conn = say()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("closed, it carries %d bytes", n)
	}
}
