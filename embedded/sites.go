package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/admin"
	edgesite "millrace/edge/site"
	"millrace/kvcache/blob"
	"millrace/kvcache/deploy"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/state"
)

// sites are the sites of the mesh as this node has them: their deploys, and the files on its disk.
type sites struct {
	cfg     *node.Config
	log     *slog.Logger
	applied *atomic.Pointer[node.Config]
	memory  *memory
	state   *stateFile
	mesh    *meshConn
	disk    *disk
	nodes   *nodes

	settings atomic.Pointer[map[string]node.Site] // of the configuration that is applied, or is being applied

	blobs *blob.Store   // nil before open
	kv    *deploy.Store // likewise
	wake  chan struct{} // tells keep that a deploy may have become superfluous
	stop  context.CancelFunc
	ended sync.WaitGroup
	wrong growth // of files with wrong bytes
}

// blobsDir is where a node keeps the files of sites, below its data directory.
const blobsDir = "blobs"

// open opens the files on this node's disk and restores what the sites served before. It follows the deploys if a route
// serves a site.
func (s *sites) open(ctx context.Context) error {
	cfg := s.memory.fit(s.cfg)
	nc := s.mesh.conn.NATS()
	copies, far := replicas(&cfg.Mesh), cfg.Mesh.Leaf != nil
	if far {
		copies = 0 // stream and bucket are the hub's
	}
	var err error
	s.blobs, err = blob.New(blob.Config{
		Dir: filepath.Join(cfg.Node.Data, blobsDir), NATS: nc, Prefix: meshPrefix(cfg.Mesh),
		Replicas: copies, Far: far, StreamBytes: s.disk.sites,
		Memory: int64(cfg.Sites.Memory), Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("configure files of sites: %w", err)
	}
	if err := s.blobs.Open(ctx); err != nil {
		return fmt.Errorf("open files of sites: %w", err)
	}
	s.kv, err = deploy.New(deploy.Config{
		Node: s.state.identity.ID, Name: cfg.Node.Name, NATS: nc, Prefix: meshPrefix(cfg.Mesh),
		Replicas: copies, Far: far, Blobs: s.blobs, Notes: siteNotes{s.state.store}, Peers: s.peers,
		Fill: cfg.Sites.Fill, Event: s.tell, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("configure sites: %w", err)
	}
	s.settings.Store(&s.cfg.Sites.Named)
	if err := s.kv.Open(ctx, cfg.Sites.Named); err != nil {
		return fmt.Errorf("open sites: %w", err)
	}
	if cfg.UsesSites() || cfg.Mesh.Leafs != nil { // leafs can't make the bucket
		s.kv.Follow()
	}
	keeping, stop := context.WithCancel(context.Background())
	s.stop, s.wake = stop, make(chan struct{}, 1)
	s.ended.Go(func() {
		s.kv.Keep(keeping, s.wake, func() map[string]node.Site { return *s.settings.Load() })
	})
	return nil
}

func (s *sites) close() error {
	if s.stop != nil {
		s.stop()
		s.ended.Wait()
	}
	var errs []error
	if s.kv != nil {
		errs = append(errs, s.kv.Close())
	}
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	return errors.Join(errs...)
}

// change applies the settings of sites, and begins to follow the deploys when the first route serves a site.
func (s *sites) change(ctx context.Context, cfg *node.Config, _ []node.Route) (warnings []string) {
	s.settings.Store(&cfg.Sites.Named)
	if cfg.UsesSites() {
		s.kv.Follow()
	}
	if err := s.kv.SetSites(ctx, cfg.Sites.Named); err != nil {
		return []string{"sites keep their old settings: " + err.Error()}
	}
	return nil
}

// peers returns the nodes of the mesh; none before the part nodes is open.
func (s *sites) peers() (out []deploy.Peer) {
	known := s.nodes.known.Load()
	if known == nil {
		return nil
	}
	for _, m := range known.List() {
		if m.State != mesh.MemberLeft {
			out = append(out, deploy.Peer{ID: m.ID, Name: m.Name, Alive: m.State == mesh.MemberAlive})
		}
	}
	return out
}

// tell publishes an event of a site to whoever listens, and wakes keep.
func (s *sites) tell(e deploy.Event) {
	s.mesh.conn.Emit("event.site."+e.Site, func() []byte {
		data, err := json.Marshal(e)
		if err != nil {
			return nil
		}
		return data
	})
	if e.What != "staged" {
		s.state.record("site", fmt.Sprintf("%s: %s %s", e.Site, e.What, deploy.Shown(e.ID)))
		select {
		case s.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// served is what the edge serves of the sites. It implements edge/site.Sites.
type served struct{ sites *sites }

// Site returns the site of that name.
func (v served) Site(name string) edgesite.Site { return v.sites.kv.Site(name) }

// File returns the file with that content.
func (v served) File(b node.Blob) edgesite.File { return v.sites.blobs.File(b) }

// Preview returns the host of the site's previews; empty if it has none.
func (v served) Preview(name string) string { return (*v.sites.settings.Load())[name].Preview }

// conditionTime bounds the wait for what is wrong with the sites.
const conditionTime = time.Second

// behindAfter is how long a node may bring what is live before that is a condition.
const behindAfter = 5 * time.Second

// conditions reports what is wrong with the sites on this node. None of it keeps the node from being ready: it serves
// what was live before.
func (s *sites) conditions(f *conditionList) {
	if s.kv == nil || !s.kv.Follows() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), conditionTime)
	defer cancel()
	list, since, trouble := s.kv.Status(ctx)
	if age := time.Since(since); trouble != nil && age > behindAfter {
		f.add(fmt.Sprintf("this node hasn't heard of sites' deploys for %s (%s): it serves what was live before, and "+
			"what is published or rolled back meanwhile doesn't reach it", age.Round(time.Second), trouble), false)
	}
	for i := range list {
		f.add(behind(&list[i]), false)
	}
	if n, at := s.wrong.note(s.blobs.Stats().BadDigests, time.Now()); n > 0 && time.Since(at) < lostShown {
		f.add(fmt.Sprintf("%d files of sites had wrong bytes on this node's disk or in the mesh's store, the last %s "+
			"ago, and were brought again: look for errors of the disk", n, time.Since(at).Round(time.Second)), false)
	}
}

// behind says that this node doesn't serve what is live; "" if it does, or if that began a moment ago.
func behind(site *deploy.NodeStatus) string {
	age := time.Since(site.Behind)
	if site.Behind.IsZero() || age < behindAfter {
		return ""
	}
	does := fmt.Sprintf("it has %s of %s", inMiB(site.Bytes), inMiB(site.Total))
	if site.Trouble != "" {
		does = site.Trouble + "; it tries again"
	}
	return fmt.Sprintf("site %s is behind on this node for %s: it serves %s, and %s is live: %s", site.Site,
		age.Round(time.Second), deploy.Shown(site.Serves), deploy.Shown(site.Live), does)
}

func (s *sites) status(st *admin.Status) {
	ctx, cancel := context.WithTimeout(context.Background(), conditionTime)
	defer cancel()
	files := s.blobs.Stats()
	st.Sites = admin.SitesStatus{
		Follows: s.kv.Follows(), Files: files.Files, DiskBytes: files.DiskBytes, DiskMax: int64(s.cfg.Sites.Disk),
		MemoryBytes: files.MemoryBytes, MemoryMax: int64(s.memory.fit(s.cfg).Sites.Memory),
		BadDigests: files.BadDigests, FetchErrors: files.FetchErrors, List: []deploy.NodeStatus{},
	}
	if list, _, _ := s.kv.Status(ctx); list != nil {
		st.Sites.List = list
	}
}

// growth remembers when a count grew last. It is safe for concurrent use.
type growth struct {
	mu    sync.Mutex // guards what follows
	count int64
	at    time.Time
}

// note notes the count, and returns it with the time when it was last seen to grow.
func (g *growth) note(count int64, now time.Time) (int64, time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if count > g.count {
		g.count, g.at = count, now
	}
	return count, g.at
}

// siteNotes keeps, in the node's state, what its sites serve.
type siteNotes struct{ state *state.Store }

const siteNote = "sites"

// Load returns the note of the previous run; nil if there is none.
func (n siteNotes) Load() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	b, err := n.state.Note(ctx, siteNote)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// Save stores the note of this run.
func (n siteNotes) Save(note []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	return n.state.SetNote(ctx, siteNote, note)
}
