package embedded_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/config"
)

// Every broken file that we have is given to a node that serves: each is refused with its line, and nothing else happens.
func TestBrokenReloads(t *testing.T) {
	a := app(t, "from the app")
	yaml := edgeYAML + fmt.Sprintf("upstreams: {api: {targets: [%q]}}\nroutes: [{path: /a, to: upstream:api}]\n", a.URL)
	opts, path := settings(t, yaml)
	n := open(t, opts)
	broken, err := filepath.Glob("../node/config/testdata/mistakes/*.yaml")
	if err != nil || len(broken) < 50 {
		t.Fatalf("%d broken files, %v", len(broken), err)
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var served atomic.Int64
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := http.Get(n.EdgeURL() + "/a")
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("got %d", resp.StatusCode)
				}
				served.Add(1)
			}
		})
	}
	natsservertest.Eventually(t, "requests flow", func() bool { return served.Load() > 10 })
	for _, file := range broken {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(text))
		_, err = n.Reload(t.Context())
		mistakes, ok := errors.AsType[config.Errors](err)
		if !ok || mistakes[0].Line == 0 && !strings.Contains(err.Error(), "millrace.yaml") {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
	before := served.Load()
	natsservertest.Eventually(t, "requests flow on", func() bool { return served.Load() > before+10 })
	close(stop)
	wait.Wait()
	st := n.Status()
	if st.Revision != 1 || !st.Ready {
		t.Errorf("revision %d, ready %t, after nothing but broken files", st.Revision, st.Ready)
	}
	journal, err := n.Journal(t.Context())
	if err != nil || len(journal) == 0 || journal[0].Kind != "reload-refused" || !strings.Contains(journal[0].Detail, "millrace.yaml:") {
		t.Errorf("the journal says %+v, %v", journal, err)
	}
	t.Logf("%d broken files, %d requests served", len(broken), served.Load())
}
