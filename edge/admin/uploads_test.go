package admin_test

import (
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/edge/admin"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/nodetest"
)

// busyNode is a siteNode that takes manifests and blobs when it is let.
type busyNode struct {
	*siteNode

	let  chan struct{}
	mu   sync.Mutex // guards runs
	runs int
}

func (b *busyNode) wait(ctx context.Context) {
	b.mu.Lock()
	b.runs++
	b.mu.Unlock()
	select {
	case <-b.let:
	case <-ctx.Done():
	}
}

func (b *busyNode) running() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.runs
}

func (b *busyNode) Begin(ctx context.Context, name string, manifest []byte) (*deploy.Begun, error) {
	b.wait(ctx)
	return b.siteNode.Begin(ctx, name, manifest)
}

func (b *busyNode) Upload(string) admin.BlobUpload { return b }

func (b *busyNode) Put(ctx context.Context, _ node.Digest, _ int64, r io.Reader) error {
	b.wait(ctx)
	_, err := io.Copy(io.Discard, r)
	return err
}

// A site's publishers can't fill the node's memory with manifests and blobs, nor take the room of other sites; what
// finds no room may be sent again.
func TestBodiesAtOnce(t *testing.T) {
	for _, c := range []struct {
		page         string
		all, perSite int
		body         []byte
	}{{"deploys", 4, 2, []byte("m")}, {"blobs", 64, 16, frame("x")}} {
		n := &busyNode{siteNode: &siteNode{}, let: make(chan struct{})}
		var o fakeNode
		s := serve(t, admin.Node{
			Status: o, Routes: o, Metrics: o, Purges: o, Limits: o, Reload: o, Tail: o, Sites: n,
		}, token, nil)
		ask := asker(t, s)
		var wg sync.WaitGroup
		begin := func(site string) {
			wg.Go(func() {
				if status, text := ask("POST", "/v1/sites/"+site+"/"+c.page, token, c.body); status != 200 {
					t.Errorf("%s of %s: %d %s", c.page, site, status, text)
				}
			})
		}
		refused := func(site string) {
			if status, _ := ask("POST", "/v1/sites/"+site+"/"+c.page, token, c.body); status != 503 {
				t.Errorf("one of %s too many for %s: %d", c.page, site, status)
			}
		}
		begun := 0
		for _, site := range []string{"a", "b", "c", "d"} {
			for range c.perSite {
				if begun == c.all {
					break
				}
				begin(site)
				begun++
			}
			nodetest.Eventually(t, "all run", func() bool { return n.running() == begun })
			refused(site)
		}
		refused("other")
		close(n.let)
		wg.Wait()
		begin("a")
		wg.Wait()
	}
}

// bodyReader gives a byte each time, after a pause.
type bodyReader struct{ pause time.Duration }

func (b bodyReader) Read(p []byte) (int, error) {
	<-time.After(b.pause)
	p[0] = 'x'
	return 1, nil
}

// deadlines is a response that remembers its read deadline.
type deadlines struct {
	*httptest.ResponseRecorder

	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = t
	return nil
}

// A body may not stand still, and not trickle either; what the node takes itself isn't the client's time.
func TestBodiesKeepPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		in := admin.BodyOf(w, bodyReader{time.Second})
		for i := range 40 {
			<-time.After(time.Hour) // the node is busy
			begun := time.Now()
			_, _ = in.Read(make([]byte, 1))
			if left := w.read.Sub(begun); left != time.Duration(30-i)*time.Second {
				t.Fatalf("after %d s of waiting: %s are left", i, left)
			}
		}
		fast := admin.BodyOf(w, strings.NewReader(strings.Repeat("x", 1<<20)))
		_, _ = io.ReadFull(fast, make([]byte, 1<<20-1))
		begun := time.Now()
		_, _ = fast.Read(make([]byte, 1))
		if left := w.read.Sub(begun); left != 30*time.Second {
			t.Errorf("%s are left for one that was fast", left)
		}
	})
}

// putNode remembers how much of the body was read when a blob was put.
type putNode struct {
	in   *countingReader
	seen []int
}

func (p *putNode) Put(_ context.Context, _ node.Digest, _ int64, r io.Reader) error {
	p.seen = append(p.seen, p.in.n)
	_, err := io.Copy(io.Discard, r)
	return err
}

func (p *putNode) Wait() error { return nil }

type countingReader struct {
	io.Reader

	n int
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

// A small blob is read before the store makes room for it, so that a slow client holds no room.
func TestSmallBlobsAreReadFirst(t *testing.T) {
	one, two := strings.Repeat("x", 512<<10), strings.Repeat("y", 1<<20)
	body := bytes.Join([][]byte{frame("one"), frame(one), frame(two)}, nil)
	in := &countingReader{Reader: bytes.NewReader(body)}
	p := &putNode{in: in}
	if n, err := admin.TakeBlobs(t.Context(), p, in); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for i, want := range []int{43, 43 + 40 + 512<<10, 43 + 40 + 512<<10 + 40} {
		if p.seen[i] != want {
			t.Errorf("blob %d: %d bytes were read, want %d", i+1, p.seen[i], want)
		}
	}
}
