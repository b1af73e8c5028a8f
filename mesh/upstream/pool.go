package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

const (
	// maxIdle bounds the connections that a target keeps open without a request.
	maxIdle = 256
	// idleFor is how long one is kept, unless the target says less in Keep-Alive. Most servers keep them longer.
	idleFor = 30 * time.Second
)

// pool keeps connections to one target. The newest idle one is used first, so that the others can run out.
type pool struct {
	network, addr string
	host          string       // name and port, for requests of the node's own
	tls           *tls.Config  // nil for http
	within        atomic.Int64 // nanoseconds until a connection stands
	now           func() time.Time

	mu     sync.Mutex
	rest   []*conn   // idle, the oldest first
	soon   time.Time // before then none of them expires
	used   map[*conn]struct{}
	closed bool
}

// newPool makes the pool of a target, whose host name leads to that address, or to any if it isn't given.
func newPool(target node.BaseURL, addr netip.Addr, connect time.Duration, now func() time.Time) (*pool, error) {
	u, err := url.Parse(string(target))
	if err != nil {
		return nil, fmt.Errorf("parse target: %w", err)
	}
	p := &pool{used: map[*conn]struct{}{}, network: "tcp", now: now}
	p.within.Store(int64(connect))
	port := u.Port()
	if u.Scheme == "https" {
		// read once only, and so not when descriptors are short; connections tell what is wrong
		_, _ = x509.SystemCertPool()
		p.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[p.tls != nil]
	}
	host := u.Hostname()
	if addr.IsValid() {
		host = addr.String()
	}
	p.host, p.addr = net.JoinHostPort(u.Hostname(), port), net.JoinHostPort(host, port)
	return p, nil
}

// get gives an idle connection that the target has neither closed nor written to, or nil. What a target sends unasked
// (a 408, leftovers of an earlier body) must never be taken for the answer to the next request.
func (p *pool) get() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	for n := len(p.rest); n > 0; n-- {
		c := p.rest[n-1]
		p.rest[n-1] = nil
		p.rest = p.rest[:n-1]
		if c.socket.quiet() {
			p.used[c] = struct{}{}
			return c
		}
		_ = c.Close()
	}
	return nil
}

// put takes a connection back that had a whole response.
func (p *pool) put(c *conn) {
	now := p.now()
	c.expires = now.Add(c.idle)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, c)
	if p.closed || len(p.rest) >= maxIdle {
		_ = c.Close()
		return
	}
	if len(p.rest) == 0 || c.expires.Before(p.soon) {
		p.soon = c.expires
	}
	p.rest = append(p.rest, c)
}

// drop closes a connection that can't be used again.
func (p *pool) drop(c *conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, c)
}

// cut ends the connections in use, and with them their requests.
func (p *pool) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.used {
		_ = c.Close()
	}
}

// expire closes the idle connections whose time is over. The caller holds mu.
func (p *pool) expire() {
	now := p.now()
	if len(p.rest) == 0 || !now.After(p.soon) {
		return
	}
	kept := p.rest[:0]
	for _, c := range p.rest {
		switch {
		case now.After(c.expires):
			_ = c.Close()
			continue
		case len(kept) == 0 || c.expires.Before(p.soon):
			p.soon = c.expires
		}
		kept = append(kept, c)
	}
	clear(p.rest[len(kept):])
	p.rest = kept
}

// sweep closes what rests too long when no request comes to do it.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
}

func (p *pool) idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rest)
}

// connect makes a new connection for a request.
func (p *pool) connect(ctx context.Context) (*conn, error) {
	c, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.host = p.host
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return nil, errRemoved
	}
	p.used[c] = struct{}{}
	return c, nil
}

var errRemoved = errors.New("the target was taken out")

// dial makes a new connection, with TLS where the target wants it.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.within.Load()))
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, p.network, p.addr)
	if err != nil {
		return nil, connectError(err)
	}
	if p.tls == nil {
		return newConn(raw, raw), nil
	}
	secure := tls.Client(raw, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, connectError(fmt.Errorf("%w: %w", errTLS, err))
	}
	return newConn(secure, raw), nil
}

// close ends the idle connections; those in use end when they are put back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.rest {
		_ = c.Close()
	}
	p.rest = nil
}
