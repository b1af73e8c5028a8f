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
	idleTimeout = 30 * time.Second
)

// pool keeps connections to one target. The newest idle one is used first, so that the others can run out.
type pool struct {
	network, addr  string
	host           string       // name and port, for requests of the node's own
	tls            *tls.Config  // nil for http
	connectTimeout atomic.Int64 // nanoseconds until a connection stands
	now            func() time.Time

	mu         sync.Mutex
	idle       []*conn   // idle, the oldest first
	nextExpiry time.Time // before then none of them expires
	inUse      map[*conn]struct{}
	closed     bool
}

// newPool makes the pool of a target, whose host name leads to that address, or to any if it isn't given.
func newPool(target node.BaseURL, addr netip.Addr, connect time.Duration, now func() time.Time) (*pool, error) {
	u, err := url.Parse(string(target))
	if err != nil {
		return nil, fmt.Errorf("parse target: %w", err)
	}
	p := &pool{inUse: map[*conn]struct{}{}, network: "tcp", now: now}
	p.connectTimeout.Store(int64(connect))
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
	for n := len(p.idle); n > 0; n-- {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if c.socket.quiet() {
			p.inUse[c] = struct{}{}
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
	delete(p.inUse, c)
	if p.closed || len(p.idle) >= maxIdle {
		_ = c.Close()
		return
	}
	if len(p.idle) == 0 || c.expires.Before(p.nextExpiry) {
		p.nextExpiry = c.expires
	}
	p.idle = append(p.idle, c)
}

// drop closes a connection that can't be used again.
func (p *pool) drop(c *conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, c)
}

// cut ends the connections in use, and with them their requests.
func (p *pool) closeInUse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.inUse {
		_ = c.Close()
	}
}

// expire closes the idle connections whose time is over. The caller holds mu.
func (p *pool) expire() {
	now := p.now()
	if len(p.idle) == 0 || !now.After(p.nextExpiry) {
		return
	}
	kept := p.idle[:0]
	for _, c := range p.idle {
		switch {
		case now.After(c.expires):
			_ = c.Close()
			continue
		case len(kept) == 0 || c.expires.Before(p.nextExpiry):
			p.nextExpiry = c.expires
		}
		kept = append(kept, c)
	}
	clear(p.idle[len(kept):])
	p.idle = kept
}

// sweep closes what rests too long when no request comes to do it.
func (p *pool) closeExpired() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
}

func (p *pool) idleCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
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
	p.inUse[c] = struct{}{}
	return c, nil
}

var errRemoved = errors.New("the target was taken out")

// dial makes a new connection, with TLS where the target wants it.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.connectTimeout.Load()))
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
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}
