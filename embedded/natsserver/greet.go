package natsserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// ErrNameInUse means that another server of the cluster has this one's name. Both would be the same member of
// JetStream's groups, which harms the one that was there first.
var ErrNameInUse = errors.New("set node.name")

// greetTime bounds the wait for a peer's greeting, and so the time that a silent peer adds to a start.
const greetTime = 2 * time.Second

// maxGreeting bounds a greeting, in bytes.
const maxGreeting = 32 << 10

// greeting is the part used here of the INFO line. A server sends it to whoever connects to its cluster port, before it
// asks for credentials.
type greeting struct {
	ID   string `json:"server_id"`
	Name string `json:"server_name"`
}

var errGreeting = errors.New("it isn't a NATS server")

// parseGreeting parses the first line that a server sends.
func parseGreeting(line []byte) (g greeting, err error) {
	text, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok || json.Unmarshal(text, &g) != nil || g.ID == "" {
		return greeting{}, errGreeting
	}
	return g, nil
}

// greet returns the greeting of the server on a cluster port.
func greet(ctx context.Context, addr string) (greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return greeting{}, err
	}
	defer c.Close()
	// SetReadDeadline fails only on a closed connection.
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	line, err := bufio.NewReader(io.LimitReader(c, maxGreeting)).ReadBytes('\n')
	if err != nil {
		return greeting{}, err
	}
	return parseGreeting(line)
}

// greeted is the greeting of a peer, or the error.
type greeted struct {
	greeting

	addr string
	err  error
}

// greetAll connects to all peers at the same time and returns their greetings.
func (c *Cluster) greetAll(ctx context.Context) []greeted {
	out := make([]greeted, len(c.Peers))
	var all sync.WaitGroup
	for i, addr := range c.Peers {
		all.Go(func() {
			g, err := greet(ctx, addr)
			out[i] = greeted{g, addr, err}
		})
	}
	all.Wait()
	return out
}

// checkName makes sure that no peer has this server's name. NATS itself refuses such a server only where the server
// dials the peer of that name. Other peers would take it for that one.
func (s *Server) checkName(ctx context.Context) error {
	if s.cfg.Cluster == nil {
		return nil
	}
	for _, g := range s.cfg.Cluster.greetAll(ctx) {
		if g.err == nil && g.Name == s.cfg.Name { // this server doesn't listen yet, so it can't be itself
			return fmt.Errorf("another node is named %s, which listens on %s: %w", g.Name, g.addr, ErrNameInUse)
		}
	}
	return nil
}
