package deploy

import (
	"context"
	"slices"
	"strings"
	"time"

	"millrace/node"
)

// Summary says what is known of a site.
type Summary struct {
	Site     string             `json:"site"`
	Live     node.Digest        `json:"live"`
	Since    time.Time          `json:"since,omitzero"` // when it became live
	By       string             `json:"by,omitempty"`
	Message  string             `json:"message,omitempty"`
	Files    int                `json:"files"`
	Bytes    int64              `json:"bytes"`
	Deploys  []Record           `json:"deploys"`           // newest first
	Previews map[string]Preview `json:"previews"`          // by name, those that haven't expired
	Changes  []Change           `json:"changes,omitempty"` // of what is live, newest first; of Show only
	Nodes    []Answer           `json:"nodes,omitempty"`   // how far each node is; of Show only
}

// List returns what the bucket has of each site, by name.
func (s *Store) List(ctx context.Context) ([]Summary, error) {
	s.Follow()
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return nil, err
	}
	out := []Summary{}
	for _, t := range tablesOf(updates) {
		if sum := t.summary(s.cfg.Now()); len(sum.Deploys) > 0 || sum.Live != (node.Digest{}) {
			out = append(out, *sum)
		}
	}
	slices.SortFunc(out, func(a, b Summary) int { return strings.Compare(a.Site, b.Site) })
	return out, nil
}

// summary returns what the records of a site say. Those of another version are left out.
func (t *table) summary(now time.Time) *Summary {
	t.arrange(fullFiles)
	out := &Summary{
		Site: t.name, Live: t.change.ID, Since: t.change.At, By: t.change.By, Message: t.change.Message,
		Deploys: make([]Record, 0, len(t.newest)), Previews: map[string]Preview{},
	}
	for _, e := range t.newest {
		out.Deploys = append(out.Deploys, e.record)
		if e.record.ID() == out.Live {
			out.Files, out.Bytes = e.record.Files, e.record.Bytes
		}
	}
	for name, p := range t.previews {
		if now.Before(p.Until) {
			out.Previews[name] = p.Preview
		}
	}
	return out
}

// askTime is how long Show waits for the other nodes.
const askTime = time.Second

// Show returns what is known of one site, and how far each node is with it. The error is ErrUnknownSite if nothing was
// published to it.
func (s *Store) Show(ctx context.Context, name string) (*Summary, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(sum Summary) bool { return sum.Site == name })
	if i < 0 {
		return nil, ErrUnknownSite
	}
	sum := &all[i]
	if sum.Changes, err = s.changes(ctx, name); err != nil {
		return nil, err
	}
	slices.Reverse(sum.Changes)
	now, err := s.live(ctx, name)
	if err != nil || now.revision == 0 { // nothing was ever live that a node could serve
		return sum, err
	}
	q := question{Site: name, ID: now.change.ID, Revision: now.revision}
	if kv, err := s.bucket.open(ctx); err == nil {
		q.Incarnation = kv.incarnation
	}
	sum.Nodes, err = s.ask(ctx, q, askTime, nil)
	return sum, err
}

// Manifest returns the encoded manifest of a deploy. The error is ErrUnknownDeploy if the site has no such deploy.
func (s *Store) Manifest(ctx context.Context, name string, id node.Digest) ([]byte, error) {
	r, _, err := s.record(ctx, name, id)
	if err != nil {
		return nil, err
	}
	return s.cfg.Blobs.ReadAll(ctx, r.Manifest)
}

// NodeStatus is what this node has of a site.
type NodeStatus struct {
	Site     string      `json:"site"`
	Live     node.Digest `json:"live"`             // what is live in the mesh, as far as this node has heard
	Serves   node.Digest `json:"serves"`           // what this node serves; zero for nothing
	Since    time.Time   `json:"since,omitzero"`   // when it began to serve that
	Behind   time.Time   `json:"behind,omitzero"`  // since when it brings what is live; zero if it serves that
	Trouble  string      `json:"trouble,omitzero"` // why it can't
	Staged   int         `json:"staged"`           // deploys that are here
	Deploys  int         `json:"deploys"`          // deploys that there are
	Previews int         `json:"previews"`
	Bytes    int64       `json:"bytes"` // that this node has of what is live, while it is behind
	Total    int64       `json:"total"` // that it needs of it, likewise
}

// Status returns what this node has of each site, by name, and since when it can't follow the bucket and why; trouble
// is nil if it can.
func (s *Store) Status(ctx context.Context) (sites []NodeStatus, since time.Time, trouble error) {
	_ = s.do(ctx, func(f *follower) {
		for name, t := range f.tables {
			if t.stamp.revision != 0 || len(t.deploys) > 0 {
				sites = append(sites, t.status(name))
			}
		}
		if s.following.Load() {
			trouble, since = f.trouble, f.since
		}
	})
	slices.SortFunc(sites, func(a, b NodeStatus) int { return strings.Compare(a.Site, b.Site) })
	return sites, since, trouble
}

func (t *table) status(name string) NodeStatus {
	state := t.site.State()
	out := NodeStatus{
		Site: name, Live: t.change.ID, Since: state.Since, Deploys: len(t.deploys), Previews: len(state.Previews),
	}
	if state.Live != nil {
		out.Serves = state.Live.ID
	}
	for _, e := range t.deploys {
		if e.deploy != nil {
			out.Staged++
		}
	}
	if e := t.deploys[t.change.ID]; e != nil && out.Serves != out.Live {
		out.Behind, out.Bytes, out.Total = e.since, e.progress.done.Load(), e.progress.total.Load()
		if e.failed != nil {
			out.Trouble = e.failed.Error()
		}
	}
	return out
}
