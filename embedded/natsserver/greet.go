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

// ErrNameInUse means that another server of the cluster has this one's name. Both would be one and the same member of
// JetStream's groups, which harms the one that was there first.
var ErrNameInUse = errors.New("set node.name")

// greetTime bounds how long a peer may take to say who it is, and so what one that doesn't answer adds to a start.
const greetTime = 2 * time.Second

// maxGreeting bounds in bytes what a server says of itself.
const maxGreeting = 32 << 10

// greeting is what a server says of itself to whoever connects to its cluster's port, before it asks for credentials.
type greeting struct {
	ID   string `json:"server_id"`
	Name string `json:"server_name"`
}

var errGreeting = errors.New("it isn't a NATS server")

// parseGreeting reads the first line that a server sends.
func parseGreeting(line []byte) (g greeting, err error) {
	text, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok || json.Unmarshal(text, &g) != nil || g.ID == "" {
		return greeting{}, errGreeting
	}
	return g, nil
}

// greet asks the server on a cluster's port who it is.
func greet(ctx context.Context, addr string) (greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return greeting{}, err //nolint:wrapcheck // the callers only want to know that there is one
	}
	defer c.Close()
	// fails only on a closed connection
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	line, err := bufio.NewReader(io.LimitReader(c, maxGreeting)).ReadBytes('\n')
	if err != nil {
		return greeting{}, err //nolint:wrapcheck // see above
	}
	return parseGreeting(line)
}

// greeted is what came of greeting a peer.
type greeted struct {
	greeting

	addr string
	err  error
}

// greetAll greets every peer at once.
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

// checkName makes sure that none of the peers has this server's name. NATS itself refuses such a server only where it
// dials its namesake: the others take it for that one.
func (s *Server) checkName(ctx context.Context) error {
	if s.cfg.Cluster == nil {
		return nil
	}
	for _, g := range s.cfg.Cluster.greetAll(ctx) {
		if g.err == nil && g.Name == s.cfg.Name { // this server doesn't listen yet
			return fmt.Errorf("another node is named %s, which listens on %s: %w", g.Name, g.addr, ErrNameInUse)
		}
	}
	return nil
}
