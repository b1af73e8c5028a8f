package admin_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"millrace/edge/admin"
	"millrace/kvcache/blob"
	"millrace/kvcache/deploy"
	"millrace/node"
)

func (fakeNode) SiteToken(string) string { return "" }

func (fakeNode) Begin(context.Context, string, []byte) (*deploy.Begun, error) {
	return &deploy.Begun{}, nil
}

func (fakeNode) Upload(string) admin.BlobUpload { return nil }

func (fakeNode) Publish(
	context.Context, string, deploy.Publication, func(*deploy.Answer),
) (*deploy.Published, error) {
	return &deploy.Published{}, nil
}

func (fakeNode) Rollback(context.Context, string, node.Digest, string, string) (*deploy.Published, error) {
	return &deploy.Published{}, nil
}

func (fakeNode) Promote(context.Context, string, string, string, string) (*deploy.Published, error) {
	return &deploy.Published{}, nil
}

func (fakeNode) Delete(context.Context, string, string) (*deploy.Published, error) { return nil, nil }

func (fakeNode) List(context.Context) ([]deploy.Summary, error) { return nil, nil }

func (fakeNode) Show(context.Context, string) (*deploy.Summary, error) { return nil, nil }

func (fakeNode) Manifest(context.Context, string, node.Digest) ([]byte, error) { return nil, nil }

func (fakeNode) URL(string, string, node.Digest) string { return "http://h/" }

// siteNode is a node with one site, www, whose own token is siteToken.
type siteNode struct {
	fakeNode

	blobs     map[node.Digest]string // that were received
	published deploy.Publication
	fails     error // of the next change
}

const siteToken = "token-of-the-site-www"

func (s *siteNode) SiteToken(name string) string {
	if name == "www" {
		return siteToken
	}
	return ""
}

func (s *siteNode) Begin(_ context.Context, name string, manifest []byte) (*deploy.Begun, error) {
	if len(manifest) == 0 {
		return nil, deploy.ErrManifest
	}
	return &deploy.Begun{ID: node.DigestOf(manifest), Files: len(name)}, nil
}

func (s *siteNode) Upload(string) admin.BlobUpload { return s }

func (s *siteNode) Wait() error { return nil }

func (s *siteNode) Put(_ context.Context, d node.Digest, size int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil || int64(len(data)) != size || node.DigestOf(data) != d {
		return fmt.Errorf("%w: %w", blob.ErrDigest, err)
	}
	s.blobs[d] = string(data)
	return nil
}

func (s *siteNode) Publish(
	_ context.Context, _ string, p deploy.Publication, each func(*deploy.Answer),
) (*deploy.Published, error) {
	if s.fails != nil {
		return nil, s.fails
	}
	s.published = p
	each(&deploy.Answer{Node: "n1", State: deploy.NodeBringing, Bytes: 1, Total: 2})
	each(&deploy.Answer{Node: "n1", State: deploy.NodeReady})
	return &deploy.Published{Live: p.ID, Behind: []string{}}, nil
}

func (s *siteNode) Rollback(
	_ context.Context, _ string, id node.Digest, _, message string,
) (*deploy.Published, error) {
	if message == "fail" {
		return nil, deploy.ErrUnknownDeploy
	}
	return &deploy.Published{Live: id}, nil
}

// serveSites opens the API of a siteNode with an admin token.
func serveSites(t *testing.T) (*siteNode, func(method, path, token string, body []byte) (int, string)) {
	t.Helper()
	n := &siteNode{blobs: map[node.Digest]string{}}
	var o fakeNode
	s := serve(t, admin.Node{
		Status: o, Routes: o, Metrics: o, Purges: o, Limits: o, Reload: o, Tail: o, Sites: n,
	}, token, nil)
	return n, asker(t, s)
}

// asker returns a function that sends a request to the API.
func asker(t *testing.T, s *admin.Server) func(method, path, token string, body []byte) (int, string) {
	t.Helper()
	return func(method, path, token string, body []byte) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
}

// A site's token opens the pages of its site, and no other page.
func TestSiteToken(t *testing.T) {
	_, ask := serveSites(t)
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/v1/sites/www", siteToken, 200},
		{"/v1/sites/www", token, 200},
		{"/v1/sites/www", "another-token-of-a-site", 401},
		{"/v1/sites/www", "", 401},
		{"/v1/sites/shop", siteToken, 401},
		{"/v1/sites/shop", "", 401},
		{"/v1/sites", siteToken, 401},
		{"/v1/status", siteToken, 401},
		{"/v1/sites/www/../../status", siteToken, 401},
		{"/v1/sites/www%2f..%2fshop", siteToken, 400}, // no name of a site
		{"/v1/sites/WWW", token, 400},
	} {
		if got, text := ask("GET", c.path, c.token, nil); got != c.want {
			t.Errorf("%s with %q: %d, want %d: %s", c.path, c.token, got, c.want, text)
		}
	}
}

// frame returns a blob as it is sent.
func frame(text string) []byte {
	d := node.DigestOf([]byte(text))
	return append(binary.BigEndian.AppendUint64(d[:], uint64(len(text))), text...)
}

// Blobs arrive in frames, many in one request, and beyond the size of other bodies.
func TestReceiveBlobs(t *testing.T) {
	n, ask := serveSites(t)
	large := strings.Repeat("x", 1<<20)
	body := bytes.Join([][]byte{frame("one"), frame(""), frame(large)}, nil)
	if status, text := ask("POST", "/v1/sites/www/blobs", siteToken, body); status != 200 || !strings.Contains(text,
		"3") {
		t.Errorf("%d %s", status, text)
	}
	for _, want := range []string{"one", "", large} {
		if got, ok := n.blobs[node.DigestOf([]byte(want))]; !ok || got != want {
			t.Errorf("%d bytes weren't received", len(want))
		}
	}
	wrong := frame("two")
	wrong[len(wrong)-1] = 'x'
	huge := frame("three")
	binary.BigEndian.PutUint64(huge[32:], 1<<63)
	for name, body := range map[string][]byte{
		"a wrong digest": wrong, "a head that breaks off": frame("two")[:20],
		"a blob that breaks off": frame("two")[:41],
		"a size beyond all":      huge,
	} {
		if status, text := ask("POST", "/v1/sites/www/blobs", siteToken, body); status < 400 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// What is wrong with a change is told before anything is changed.
func TestSiteChanges(t *testing.T) {
	n, ask := serveSites(t)
	id := node.DigestOf([]byte("m")).String()
	for _, c := range []struct {
		page, body string
		status     int
		want       string
	}{
		{"live", `{"id": "` + id + `"}`, 200, `"url":"http://h/"`},
		{"live", `{"id": "` + id + `", "if_live": ""}`, 200, `"state":"bringing"`},
		{"live", `{}`, 400, "name the id"},
		{"live", `{"id": "x"}`, 400, "hexadecimal"},
		{"live", `{"id": "` + id + `", "if_live": "x"}`, 400, "if_live"},
		{"live", `{"id": "` + id + `", "wait": "some"}`, 400, "wait is"},
		{"live", `{"id": "` + id + `", "preview": "A B"}`, 400, "preview"},
		{"live", `{"id": "` + id + `", "by": "` + strings.Repeat("b", 2000) + `"}`, 400, "1024"},
		{"live", `{"ids": 1}`, 400, "JSON"},
		{"rollback", `{"id": "` + id + `"}`, 200, id},
		{"rollback", ``, 200, `"live"`},
		{"rollback", `{"message": "fail"}`, 404, `"code": "unknown"`},
		{"promote", `{}`, 400, "name the preview"},
		{"promote", `{"preview": "pr-7"}`, 200, `"live"`},
		{"deploys", ``, 400, "manifest is invalid"},
		{"deploys", `{"version": 1}`, 200, `"missing"`},
	} {
		if status, text := ask("POST", "/v1/sites/www/"+c.page, siteToken, []byte(c.body)); status != c.status ||
			!strings.Contains(text, c.want) {
			t.Errorf("%s %.60s: %d %s", c.page, c.body, status, text)
		}
	}
	if n.published.ID.String() != id {
		t.Errorf("published %s", n.published.ID)
	}
	lost := &deploy.LostRaceError{Live: node.DigestOf([]byte("a")), Wanted: node.DigestOf([]byte("b"))}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{lost, 409, admin.CodeLostRace},
		{&deploy.MissingError{}, 409, admin.CodeMissing},
		{fmt.Errorf("of a test: %w", deploy.ErrNotReady), 409, admin.CodeNotReady},
		{fmt.Errorf("of a test: %w", deploy.ErrLimit), 409, admin.CodeLimit},
		{blob.ErrFull, 507, admin.CodeFull},
		{errors.New("of a test"), 503, admin.CodeFailed},
	} {
		n.fails = c.err
		status, text := ask("POST", "/v1/sites/www/live", siteToken, []byte(`{"id": "`+id+`"}`))
		var got struct{ Code, Live, Wanted string }
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != c.status || got.Code != c.code {
			t.Errorf("%v: %d %s", c.err, status, text)
		}
		if errors.Is(c.err, lost) && (got.Live != lost.Live.String() || got.Wanted != lost.Wanted.String()) {
			t.Errorf("a lost race names not both: %s", text)
		}
	}
}
