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
	// maxIdle bounds the idle connections of a target.
	maxIdle = 256
	// idleTimeout is how long a connection may be idle, unless the target says less in Keep-Alive. Most servers keep
	// them longer.
	idleTimeout = 30 * time.Second
)

// pool keeps connections to one target. The most recent idle one is used first, so that the others can expire.
type pool struct {
	network, addr  string
	host           string       // name and port, for the node's own requests
	tls            *tls.Config  // nil for http
	connectTimeout atomic.Int64 // nanoseconds until connected
	now            func() time.Time

	mu         sync.Mutex
	idle       []*conn   // oldest first
	nextExpiry time.Time // no idle connection expires before that
	inUse      map[*conn]struct{}
	closed     bool
}

// newPool makes the pool of a target. Its connections go to addr if that is valid, else to any address of its host
// name.
func newPool(target node.BaseURL, addr netip.Addr, connect time.Duration, now func() time.Time) (*pool, error) {
	u, err := url.Parse(string(target))
	if err != nil {
		return nil, fmt.Errorf("parse target: %w", err)
	}
	p := &pool{inUse: map[*conn]struct{}{}, network: "tcp", now: now}
	p.connectTimeout.Store(int64(connect))
	port := u.Port()
	if u.Scheme == "https" {
		// Load the certificates now, not when descriptors are short. Connections report errors.
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

// get returns an idle connection that the target has neither closed nor written to, or nil. What a target sends
// unasked, such as a 408 or leftovers of an earlier body, must never be taken for the answer to the next request.
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

// put returns a connection whose response was read completely.
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

// drop closes a connection that can't be reused.
func (p *pool) drop(c *conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, c)
}

// closeInUse closes the connections in use, which ends their requests.
func (p *pool) closeInUse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.inUse {
		_ = c.Close()
	}
}

// expire closes the expired idle connections. The caller holds mu.
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

// closeExpired closes expired connections when no request does.
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

// dial makes a new connection, with TLS if the target's URL says so.
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

// close closes the idle connections. Those in use are closed when they are put back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}
