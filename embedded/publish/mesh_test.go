package publish_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"millrace/edge/admin"
	"millrace/embedded/publish"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/site"
)

// mesh is the admin API of a mesh in memory: the part that is about sites, with the faults that a test asks for.
type mesh struct {
	*httptest.Server

	token string

	mu       sync.Mutex // guards the rest
	blobs    map[node.Digest][]byte
	named    map[node.Digest]bool // by manifests that were posted
	live     []node.Digest        // the last is live
	preview  map[string]node.Digest
	posts    int // of manifests
	taken    int // blobs that were stored
	fail     func(r *http.Request) (status int, cut bool)
	notReady bool
	cutLive  bool // the next answer to /live ends early, after the flip
	states   []publish.NodeState
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{
		token: "secret", blobs: map[node.Digest][]byte{}, named: map[node.Digest]bool{},
		preview: map[string]node.Digest{},
		states: []publish.NodeState{
			{Node: "n1", State: "ready", MS: 1},
			{Node: "n2", State: "bringing"},
			{Node: "n2", State: "ready", MS: 2},
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sites/{site}/deploys", m.postDeploy)
	mux.HandleFunc("POST /v1/sites/{site}/blobs", m.postBlobs)
	mux.HandleFunc("POST /v1/sites/{site}/live", m.postLive)
	mux.HandleFunc("POST /v1/sites/{site}/rollback", m.postRollback)
	mux.HandleFunc("GET /v1/sites", m.getSites)
	mux.HandleFunc("GET /v1/sites/{site}", m.getSite)
	mux.HandleFunc("DELETE /v1/sites/{site}", m.deleteSite)
	mux.HandleFunc("GET /v1/sites/{site}/deploys/{id}", m.getDeploy)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+m.token {
			say(w, http.StatusUnauthorized, map[string]any{"error": "the token is wrong"})
			return
		}
		m.mu.Lock()
		fail := m.fail
		m.mu.Unlock()
		if fail != nil {
			status, cut := fail(r)
			if cut {
				panic(http.ErrAbortHandler)
			}
			if status != 0 {
				say(w, status, map[string]any{"error": "as the test wants it"})
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

func say(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}

func (m *mesh) client(t *testing.T) *publish.Client {
	t.Helper()
	c, err := publish.NewClient(publish.Config{URL: m.URL + "/", Token: m.token, Wait: noWait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// stored returns how many blobs were stored. Requests that a client gave up on may be served still.
func (m *mesh) stored() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken
}

func (m *mesh) liveID() node.Digest {
	if len(m.live) == 0 {
		return node.Digest{}
	}
	return m.live[len(m.live)-1]
}

func (m *mesh) missing(manifest *site.Manifest) []node.Digest {
	missing := []node.Digest{}
	add := func(b node.Blob) {
		m.named[b.Digest] = true
		if _, ok := m.blobs[b.Digest]; !ok && !slices.Contains(missing, b.Digest) {
			missing = append(missing, b.Digest)
		}
	}
	for _, f := range manifest.Files {
		add(f.Blob)
		for _, b := range f.Codings {
			add(b)
		}
	}
	return missing
}

func (m *mesh) postDeploy(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	manifest, err2 := site.Decode(body)
	if err := errors.Join(err, err2); err != nil {
		say(w, 400, map[string]any{"error": err.Error()})
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.posts++
	m.blobs[node.DigestOf(body)] = body
	say(w, 200, map[string]any{"id": node.DigestOf(body), "missing": m.missing(manifest), "live": m.liveID()})
}

func (m *mesh) postBlobs(w http.ResponseWriter, r *http.Request) {
	stored := 0
	for {
		var header [40]byte
		if _, err := io.ReadFull(r.Body, header[:]); errors.Is(err, io.EOF) {
			say(w, 200, map[string]any{"stored": stored})
			return
		} else if err != nil {
			say(w, 400, map[string]any{"error": "a frame is cut"})
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, int64(binary.BigEndian.Uint64(header[32:]))))
		want := node.Digest(header[:32])
		m.mu.Lock()
		if err != nil || node.DigestOf(body) != want || !m.named[want] {
			m.mu.Unlock()
			say(w, 400, map[string]any{"error": fmt.Sprintf("wrong bytes for %s", want)})
			return
		}
		m.blobs[want] = body
		m.taken++
		m.mu.Unlock()
		stored++
	}
}

func (m *mesh) postLive(w http.ResponseWriter, r *http.Request) {
	var req struct {
		ID      node.Digest `json:"id"`
		IfLive  *string     `json:"if_live"`
		Preview string      `json:"preview"`
		Wait    string      `json:"wait"`
	}
	_ = json.NewDecoder(r.Body).Decode(&req)
	m.mu.Lock()
	defer m.mu.Unlock()
	manifest, err := site.Decode(m.blobs[req.ID])
	if err != nil {
		say(w, 404, map[string]any{"error": "there is no such deploy", "code": "unknown"})
		return
	}
	was := m.liveID()
	var wanted node.Digest
	if req.IfLive != nil && *req.IfLive != "" {
		wanted, _ = node.ParseDigest(*req.IfLive)
	}
	switch {
	case len(m.missing(manifest)) > 0:
		say(w, 409, map[string]any{"error": "files weren't sent", "code": "missing_blobs"})
		return
	case req.Wait == "all" && m.notReady:
		say(w, 409, map[string]any{"error": "not every node has the deploy: [n2]", "code": "not_ready"})
		return
	case req.IfLive != nil && wanted != was:
		say(w, 409, map[string]any{"error": "lost", "code": "lost_race", "live": was, "wanted": wanted})
		return
	case req.Preview != "":
		m.preview[req.Preview] = req.ID
	default:
		m.live = append(m.live, req.ID)
	}
	enc := json.NewEncoder(w)
	for _, s := range m.states {
		_ = enc.Encode(s)
		w.(http.Flusher).Flush()
	}
	if m.cutLive {
		m.cutLive = false
		panic(http.ErrAbortHandler)
	}
	_ = enc.Encode(admin.SitePublished{
		Published: &deploy.Published{Live: req.ID, Was: was, Revision: uint64(len(m.live))}, URL: "http://www.test/",
	})
}

func (m *mesh) postRollback(w http.ResponseWriter, r *http.Request) {
	var req struct {
		ID *node.Digest `json:"id"`
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || len(m.live) < 2 {
		say(w, 400, map[string]any{"error": "can't"})
		return
	}
	was, to := m.liveID(), m.live[len(m.live)-2]
	if req.ID != nil {
		to = *req.ID
	}
	m.live = append(m.live, to)
	say(w, 200, admin.SitePublished{Published: &deploy.Published{Live: to, Was: was, Behind: []string{}}})
}

func (m *mesh) summary() publish.Summary {
	sum := publish.Summary{Site: "www", Live: m.liveID(), Previews: map[string]deploy.Preview{}}
	for _, id := range slices.Backward(m.live) {
		sum.Deploys = append(sum.Deploys, deploy.Record{Manifest: node.Blob{Digest: id}})
		sum.Changes = append(sum.Changes, deploy.Change{ID: id, Why: "publish"})
	}
	for _, s := range m.states[len(m.states)-1:] {
		sum.Nodes = append(sum.Nodes, deploy.Answer{Node: s.Node, State: s.State})
	}
	return sum
}

func (m *mesh) getSites(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	say(w, 200, []publish.Summary{m.summary()})
}

func (m *mesh) getSite(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.live) == 0 {
		say(w, 404, map[string]any{"error": "nothing was published to the site", "code": "unknown"})
		return
	}
	say(w, 200, m.summary())
}

func (m *mesh) deleteSite(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.liveID()
	m.live = nil
	say(w, 200, deploy.Published{Was: was})
}

func (m *mesh) getDeploy(w http.ResponseWriter, r *http.Request) {
	id, _ := node.ParseDigest(r.PathValue("id"))
	m.mu.Lock()
	defer m.mu.Unlock()
	if body, ok := m.blobs[id]; ok {
		_, _ = w.Write(body)
		return
	}
	say(w, 404, map[string]any{"error": "there is no such deploy", "code": "unknown"})
}
