package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"millrace/node/state"
)

// openState makes the data directory and opens the node's state in it.
func (n *Node) openState(ctx context.Context) error {
	dir := n.opts.Config.Node.Data
	used := usedBefore(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory %s: choose another with node.data: %w", dir, err)
	}
	store, err := state.New(state.Config{Path: filepath.Join(dir, "node.db")})
	if err != nil {
		return fmt.Errorf("configure state: %w", err)
	}
	if err := store.Open(ctx); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	n.state = store
	n.opened("state", store.Close)
	n.tellState(ctx, used)
	n.identity, err = store.Identity(ctx)
	if err != nil {
		return fmt.Errorf("read node identity: %w", err)
	}
	return nil
}

// usedBefore reports whether a node has run on the directory: it leaves the members' URL there, and its streams.
func usedBefore(dir string) bool {
	for _, name := range []string{"client.url", filepath.Join("jetstream", "mode")} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// tellState writes down what is wrong with the state, and what else is lost by it.
func (n *Node) tellState(ctx context.Context, used bool) {
	const lost = "identity, journal and the configurations that worked"
	aside, log := n.state.SetAside(), n.state.LostLog()
	if log != "" {
		n.log.ErrorContext(ctx,
			"the log of the node's state was damaged: what was written down last is lost; a copy is kept", "file", log)
		n.record("state-log-damaged", "what was written down last is lost; a copy is "+log)
	}
	switch {
	case aside != "":
		n.log.ErrorContext(ctx,
			"the node's state was corrupt and is set aside: it starts with a new identity and an empty journal", "file",
			aside)
		n.record("state-corrupt", "set aside as "+aside+"; lost: "+lost+n.tellToken(ctx))
	case n.state.Fresh() && used:
		n.log.ErrorContext(ctx,
			"the node's state was missing or empty in a data directory that was in use: it starts with a new identity "+
				"and an empty journal; is it the right directory?",
			"file", filepath.Join(n.opts.Config.Node.Data, "node.db"))
		n.record("state-lost", "node.db was missing or empty; lost: "+lost+n.tellToken(ctx))
	}
}

// tellToken tells that the token which the node had made for its members is lost with its state. It gives the words for
// the journal.
func (n *Node) tellToken(ctx context.Context) string {
	m := n.opts.Config.Mesh
	if m.Token != "" || m.URL != "" {
		return ""
	}
	n.log.ErrorContext(ctx,
		"the member token was part of the state and is another now: members with the old one are refused; give them "+
			"the URL in client.url, and set mesh.token to have one that stays",
		"file", filepath.Join(n.opts.Config.Node.Data, "client.url"))
	return "; also the generated member token: members with the old one are refused until they have the new URL of " +
		"client.url"
}
