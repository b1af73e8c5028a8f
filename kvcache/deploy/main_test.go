package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/kvcache/deploy"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
	"millrace/node/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// note is a deploy.Notes in memory.
type note struct {
	mu   sync.Mutex
	data []byte
}

func (n *note) Load() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.data, nil
}

func (n *note) Save(data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.data = bytes.Clone(data)
	return nil
}

// testNode is one node: its blobs and its deploys.
type testNode struct {
	*deploy.Store

	blobs *blob.Store
	dir   string
	note  *note
	conn  *mesh.Conn
	stop  func()
}

// cluster is some nodes of one mesh.
type cluster struct {
	t     testing.TB
	nodes []*testNode
	dead  [8]atomic.Bool // peers that count as lost
	now   atomic.Int64   // the wall clock in Unix nanoseconds; 0 for the real one
	sites map[string]node.Site
	fill  [8]node.Fill
	// What a test changes of a node before it opens it again.
	config func(i int, cfg *deploy.Config)
	set    func(s *deploy.Store)
}

// start starts nodes on one server each of servers, or all on the same.
func start(tb testing.TB, n int, servers ...*natsserver.Server) *cluster {
	tb.Helper()
	if len(servers) == 0 {
		servers = []*natsserver.Server{natsservertest.Start(tb)}
	}
	c := &cluster{t: tb, sites: map[string]node.Site{}}
	for i := range n {
		c.nodes = append(c.nodes, &testNode{dir: tb.TempDir(), note: &note{}})
		s := servers[i%len(servers)]
		name := fmt.Sprintf("n%d", i+1)
		c.nodes[i].conn = natsservertest.Connect(tb, s, func(cfg *mesh.Config) { cfg.Name = name })
		c.open(i, len(servers))
		tb.Cleanup(func() { c.nodes[i].stop() })
	}
	return c
}

// open opens the stores of a node. replicas is 3 for three servers.
func (c *cluster) open(i, replicas int) {
	c.t.Helper()
	n := c.nodes[i]
	var err error
	n.blobs, err = blob.New(blob.Config{
		Dir: n.dir, NATS: n.conn.NATS(), Replicas: replicas, StreamBytes: 256 << 20, Memory: 8 << 20,
		Log: nodetest.Discard(),
	})
	if err == nil {
		err = n.blobs.Open(c.t.Context())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := deploy.Config{
		Node: fmt.Sprintf("id-n%d", i+1), Name: fmt.Sprintf("n%d", i+1), NATS: n.conn.NATS(), Replicas: replicas,
		Blobs: n.blobs, Notes: n.note, Peers: c.peers, Now: c.clock, Fill: c.fill[i], Log: nodetest.Discard(),
	}
	if c.config != nil {
		c.config(i, &cfg)
	}
	n.Store, err = deploy.New(cfg)
	if err == nil && c.set != nil {
		c.set(n.Store)
	}
	if err == nil {
		err = n.Open(c.t.Context(), c.sites)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	n.Follow()
	n.stop = sync.OnceFunc(func() {
		if err := n.Close(); err != nil {
			c.t.Error(err)
		}
		if err := n.blobs.Close(); err != nil {
			c.t.Error(err)
		}
	})
}

// reopen stops a node, changes what change does, and opens it again.
func (c *cluster) reopen(i int, change func()) *testNode {
	c.t.Helper()
	c.nodes[i].stop()
	change()
	c.open(i, 1)
	return c.nodes[i]
}

func (c *cluster) clock() time.Time {
	if at := c.now.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Now()
}

func (c *cluster) peers() (out []deploy.Peer) {
	for i := range c.nodes {
		name := fmt.Sprintf("n%d", i+1)
		out = append(out, deploy.Peer{ID: "id-" + name, Name: name, Alive: !c.dead[i].Load()})
	}
	return out
}

// folder is a deploy to be: the content of files by path.
type folder map[string]string

// manifest returns the encoded manifest of the folder, and the blobs by digest.
func (f folder) manifest(tb testing.TB) ([]byte, map[node.Digest]string) {
	tb.Helper()
	m := &site.Manifest{Version: site.Version, Files: map[string]site.File{}}
	blobs := map[node.Digest]string{}
	for path, text := range f {
		b := node.Blob{Digest: node.DigestOf([]byte(text)), Size: int64(len(text))}
		for rest := text; b.Size > node.BlobChunk && rest != ""; {
			n := min(int64(len(rest)), node.BlobChunk)
			b.Chunks = append(b.Chunks, node.DigestOf([]byte(rest[:n])))
			rest = rest[n:]
		}
		m.Files[path] = site.File{Blob: b}
		blobs[b.Digest] = text
	}
	data, err := site.Encode(m)
	if err != nil {
		tb.Fatal(err)
	}
	return data, blobs
}

// Receive stores one blob.
func (n *testNode) Receive(ctx context.Context, name string, d node.Digest, size int64, r io.Reader) error {
	up := n.Upload(name)
	return errors.Join(up.Put(ctx, d, size, r), up.Wait())
}

// upload begins a deploy and sends what is missing. It returns the answer to the manifest.
func (n *testNode) upload(tb testing.TB, name string, f folder) *deploy.Begun {
	tb.Helper()
	manifest, blobs := f.manifest(tb)
	begun, err := n.Begin(tb.Context(), name, manifest)
	if err != nil {
		tb.Fatal(err)
	}
	for _, d := range begun.Missing {
		if err := n.Receive(tb.Context(), name, d, int64(len(blobs[d])), strings.NewReader(blobs[d])); err != nil {
			tb.Fatal(err)
		}
	}
	return begun
}

// publish makes a folder live, and returns its id.
func (n *testNode) publish(tb testing.TB, name string, f folder) (node.Digest, *deploy.Published) {
	tb.Helper()
	begun := n.upload(tb, name, f)
	done, err := n.Publish(tb.Context(), name, deploy.Publication{ID: begun.ID, IfLive: &begun.Live}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return begun.ID, done
}

// live returns what a node serves of a site; zero for nothing.
func (n *testNode) live(name string) node.Digest {
	if d := n.Site(name).State().Live; d != nil {
		return d.ID
	}
	return node.Digest{}
}

// content returns what a node has on its disk of a path of a deploy.
func (n *testNode) content(tb testing.TB, d *deploy.Deploy, path string) string {
	tb.Helper()
	e := d.Index.Entry(path)
	if e == nil {
		tb.Fatalf("%s: no such file", path)
	}
	if !n.blobs.Has(e.Blob) {
		tb.Fatalf("%s isn't on the disk", path)
	}
	data, err := n.blobs.ReadAll(tb.Context(), e.Blob)
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}
