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
	sites := map[string]*Summary{}
	live := map[string]Change{}
	for _, u := range updates {
		if u.value == nil {
			continue
		}
		sum := sites[u.key.site]
		if sum == nil {
			sum = &Summary{Site: u.key.site, Deploys: []Record{}, Previews: map[string]Preview{}}
			sites[u.key.site] = sum
		}
		s.summarize(sum, &u, live)
	}
	out := make([]Summary, 0, len(sites))
	for name, sum := range sites {
		if sum.finish(live[name]) {
			out = append(out, *sum)
		}
	}
	slices.SortFunc(out, func(a, b Summary) int { return strings.Compare(a.Site, b.Site) })
	return out, nil
}

// summarize adds one record to the summary of its site. Records of another version are left out.
func (s *Store) summarize(sum *Summary, u *update, live map[string]Change) {
	switch u.key.kind {
	case kindDeploy:
		var r Record
		if decode(u.value, &r, &r.Version) == nil {
			sum.Deploys = append(sum.Deploys, r)
		}
	case kindPreview:
		var p Preview
		if decode(u.value, &p, &p.Version) == nil && s.cfg.Now().Before(p.Until) {
			sum.Previews[u.key.name] = p
		}
	case kindLive:
		var c Change
		if decode(u.value, &c, &c.Version) == nil {
			live[u.key.site] = c
		}
	}
}

// finish fills in what is live. It reports whether there is anything of the site.
func (sum *Summary) finish(c Change) bool {
	slices.SortFunc(sum.Deploys, func(a, b Record) int { return b.At.Compare(a.At) })
	sum.Live, sum.Since, sum.By, sum.Message = c.ID, c.At, c.By, c.Message
	for _, r := range sum.Deploys {
		if r.ID() == c.ID {
			sum.Files, sum.Bytes = r.Files, r.Bytes
		}
	}
	return len(sum.Deploys) > 0 || c.ID != (node.Digest{})
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
	_, revision, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	sum.Nodes, err = s.ask(ctx, question{Site: name, ID: sum.Live, Revision: revision}, askTime, nil)
	return sum, err
}

// Manifest returns the encoded manifest of a deploy. The error is ErrUnknownDeploy if the site has no such deploy.
func (s *Store) Manifest(ctx context.Context, name string, id node.Digest) ([]byte, error) {
	r, err := s.record(ctx, name, id)
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

// Status returns what this node has of each site, by name, and since when it can't follow the bucket and why; trouble is
// nil if it can.
func (s *Store) Status(ctx context.Context) (sites []NodeStatus, trouble error, since time.Time) {
	_ = s.do(ctx, func(f *follower) {
		for name, t := range f.tables {
			if t.revision != 0 || len(t.deploys) > 0 {
				sites = append(sites, t.status(name))
			}
		}
		if s.following.Load() {
			trouble, since = f.trouble, f.since
		}
	})
	slices.SortFunc(sites, func(a, b NodeStatus) int { return strings.Compare(a.Site, b.Site) })
	return sites, trouble, since
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
