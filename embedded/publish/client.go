package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Config configures a Client.
type Config struct {
	// URL is where the admin API is, such as http://127.0.0.1:9090 or https://www.example.com/.millrace.
	URL string
	// Token is the admin token or that of a site; empty sends none.
	Token string
	// Wait waits before attempt n (from 1) of what failed; nil doubles from 250 ms to 8 s. It returns ctx's error.
	Wait func(ctx context.Context, n int) error
}

// Client speaks the part of a node's admin API that is about sites. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	wait  func(ctx context.Context, n int) error
	http  *http.Client
}

// NewClient returns a client. It connects when a method is called.
func NewClient(cfg Config) (*Client, error) {
	base := strings.TrimRight(cfg.URL, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err == nil && (u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "") {
		err = errors.New("it must be like https://www.example.com/.millrace")
	}
	if err != nil {
		return nil, fmt.Errorf("read the URL of the admin API %q: %w", cfg.URL, err)
	}
	c := &Client{base: base, token: cfg.Token, wait: cfg.Wait}
	if c.wait == nil {
		c.wait = backoff
	}
	dial := &pinned{dialer: net.Dialer{Timeout: 10 * time.Second}}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial.dial,
			TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: uploads + 1, IdleConnTimeout: time.Minute,
			WriteBufferSize: 64 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Plain reports whether the token would go over a network as plain text.
func (c *Client) Plain() bool {
	u, err := url.Parse(c.base)
	if err != nil || u.Scheme != "http" || c.token == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && !ip.IsLoopback()
}

// pinned dials the same address as long as it answers: a name may have those of several nodes, and the one that was
// sent a manifest is the one that takes its files.
type pinned struct {
	dialer net.Dialer

	mu   sync.Mutex        // guards last
	last map[string]string // addresses that answered, by the names that were asked for
}

func (p *pinned) dial(ctx context.Context, network, name string) (net.Conn, error) {
	p.mu.Lock()
	last := p.last[name]
	p.mu.Unlock()
	if last != "" {
		if conn, err := p.dialer.DialContext(ctx, network, last); err == nil {
			return conn, nil
		}
	}
	conn, err := p.dialer.DialContext(ctx, network, name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[string]string{}
	}
	p.last[name] = conn.RemoteAddr().String()
	return conn, nil
}

// backoff is the default of Config.Wait.
func backoff(ctx context.Context, n int) error {
	const first, longest = 250 * time.Millisecond, 8 * time.Second
	wait := longest
	if n < 6 {
		wait = first << (n - 1)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
