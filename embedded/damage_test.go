package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/admin"
	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// purgesDir is where a node stores its log of purges.
const purgesDir = "jetstream/jetstream/MESH/streams/KV_millrace-purges"

// blocks returns the files that hold the log's messages.
func blocks(data string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(data, purgesDir, "msgs", "*.blk"))
	if err == nil && len(files) == 0 {
		err = errors.New("the log of purges has no blocks")
	}
	return files, err
}

// damages are failures of a disk that hit the log of purges while the node is down. before is a copy of the data from
// before the purges.
var damages = map[string]func(data, before string) error{
	"cut in half": func(data, _ string) error {
		return each(data, func(b []byte) []byte { return b[:len(b)/2] })
	},
	"cut by a few bytes": func(data, _ string) error {
		return each(data, func(b []byte) []byte { return b[:len(b)-3] })
	},
	"cut to nothing":       func(data, _ string) error { return each(data, func([]byte) []byte { return nil }) },
	"a byte in the middle": func(data, _ string) error { return each(data, middle) },
	"a byte near the end": func(data, _ string) error {
		return each(data, func(b []byte) []byte { b[len(b)-20] ^= 0x40; return b })
	},
	"a page of zeros": func(data, _ string) error {
		return each(data, func(b []byte) []byte { clear(b[len(b)/3 : 2*len(b)/3]); return b })
	},
	"blocks gone": func(data, _ string) error {
		files, err := blocks(data)
		return errors.Join(err, removeAll(files...))
	},
	"blocks and index gone": func(data, _ string) error { return removeAll(filepath.Join(data, purgesDir, "msgs")) },
	"the index gone and a byte in the middle": func(data, _ string) error {
		return errors.Join(removeAll(filepath.Join(data, purgesDir, "msgs", "index.db")), each(data, middle))
	},
	"an old copy": func(data, before string) error {
		err := removeAll(filepath.Join(data, purgesDir))
		return errors.Join(err, os.CopyFS(filepath.Join(data, purgesDir), os.DirFS(filepath.Join(before, purgesDir))))
	},
}

func middle(b []byte) []byte { b[len(b)/2] ^= 0x40; return b }

func each(data string, change func([]byte) []byte) error {
	files, err := blocks(data)
	for _, file := range files {
		b, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr, os.WriteFile(file, change(b), 0o600))
	}
	return err
}

func removeAll(paths ...string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// pages is an origin whose pages all change at the same time.
type pages struct{ version atomic.Int64 }

func (p *pages) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintf(w, "version %d", p.version.Load())
}

const pageCount = 20

// What was purged doesn't come back from the bucket of a node that stands alone, whatever happens to the log of purges
// while the node is down, and whether it was stopped or killed. If the log is intact the bucket stays in use, and
// nothing is fetched again.
func TestPurgedStaysPurgedAfterDamage(t *testing.T) {
	origin := &pages{}
	origin.version.Store(1)
	app := httptest.NewServer(origin)
	t.Cleanup(app.Close)
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /*
		    cache: 1h
		    to: upstream:app
		`, "APP", app.URL))
	data := opts.Config.Node.Data
	images := t.TempDir()
	before, killed, stopped := filepath.Join(images, "before"), filepath.Join(images, "killed"),
		filepath.Join(images, "stopped")
	n := open(t, opts)
	for i := range pageCount + 1 {
		page(t, n, i)
	}
	nodetest.Eventually(t, "the pages are in the bucket", func() bool {
		st, _ := n.CacheStats()
		return st.BucketWritten == pageCount+1
	})
	copyData(t, data, before)
	origin.version.Store(2)
	for i := range pageCount { // the last one stays
		purgePage(t, n, i)
	}
	copyData(t, data, killed)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	copyData(t, data, stopped)
	for how, image := range map[string]string{"killed": killed, "stopped": stopped} {
		t.Run(how, func(t *testing.T) {
			if got := served(t, opts, image, pageCount); got != "version 1" {
				t.Errorf("without damage, a page that wasn't purged is fetched again: %q", got)
			}
			for name, damage := range damages {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					staysAway(t, opts, image, func(data string) error { return damage(data, before) })
				})
			}
		})
	}
}

// staysAway opens a node on a damaged copy of the image and checks that nothing purged is served.
func staysAway(t *testing.T, opts embedded.Options, image string, damage func(data string) error) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	copyData(t, image, data)
	if err := damage(data); err != nil {
		t.Fatal(err)
	}
	out := &textLog{}
	opts.Config.Node.Data, opts.Log = data, out.logger()
	n := open(t, opts)
	for i := range pageCount {
		if body := page(t, n, i); body != "version 2" {
			t.Fatalf("page %d, which was purged, is %q", i, body)
		}
	}
	nodetest.Eventually(t, "the node follows its purges", func() bool {
		st, _ := n.CacheStats()
		return st.Ready
	})
	purgePage(t, n, 0) // later purges work too
	if st, _ := n.CacheStats(); st.Purges == 0 {
		t.Error("a purge doesn't count")
	}
}

// served returns a page from a node on a copy of the image.
func served(t *testing.T, opts embedded.Options, image string, i int) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	copyData(t, image, data)
	opts.Config.Node.Data = data
	return page(t, open(t, opts), i)
}

// page requests a page from the node, under a host that doesn't depend on its address.
func page(t *testing.T, n *embedded.Node, i int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/page/%d", n.EdgeURL(), i), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "pages.test"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func purgePage(t *testing.T, n *embedded.Node, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url := fmt.Sprintf("http://pages.test/page/%d", i)
	if _, err := n.Purge(ctx, admin.Purge{URL: url, Wait: admin.WaitAll}); err != nil {
		t.Fatal(err)
	}
}

func copyData(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
