package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"millrace/kvcache/blob"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/site"
)

// Sites is what the pages of sites need of the node.
type Sites interface {
	// SiteToken returns the token that may change a site and do nothing else; empty if there is none.
	SiteToken(name string) string
	Begin(ctx context.Context, name string, manifest []byte) (*deploy.Begun, error)
	Upload(name string) BlobUpload
	Publish(ctx context.Context, name string, p deploy.Publication, each func(*deploy.Answer)) (*deploy.Published,
		error)
	Rollback(ctx context.Context, name string, id node.Digest, by, message string) (*deploy.Published, error)
	Promote(ctx context.Context, name, preview, by, message string) (*deploy.Published, error)
	Delete(ctx context.Context, name, by string) (*deploy.Published, error)
	List(ctx context.Context) ([]deploy.Summary, error)
	Show(ctx context.Context, name string) (*deploy.Summary, error)
	Manifest(ctx context.Context, name string, id node.Digest) ([]byte, error)
	// URL returns where clients find a site, or a preview of it; empty if no route says so.
	URL(name, preview string, id node.Digest) string
}

// BlobUpload takes the blobs of one request.
type BlobUpload interface {
	Put(ctx context.Context, digest node.Digest, size int64, r io.Reader) error
	Wait() error
}

// ErrNotHere means that this node may not change sites; the error says which may.
var ErrNotHere = errors.New("sites can't be changed here")

// SiteChange is the body of a request that makes a deploy live, rolls back, or promotes a preview.
type SiteChange struct {
	ID      *node.Digest `json:"id,omitempty"`      // the deploy; of a rollback: the one before if it is left out
	IfLive  *string      `json:"if_live,omitempty"` // what must be live until then: an id, or "" for nothing
	Preview string       `json:"preview,omitempty"` // becomes this preview, or, of a promotion, was it
	Until   time.Time    `json:"until,omitzero"`    // end of the preview
	Wait    string       `json:"wait,omitempty"`    // WaitAll: fail unless every node that is alive has it
	By      string       `json:"by,omitempty"`
	Message string       `json:"message,omitempty"`
}

// SitePublished is the last line of the answer to a SiteChange. If Error is set, nothing has changed.
type SitePublished struct {
	*deploy.Published

	URL    string       `json:"url,omitempty"`
	Error  string       `json:"error,omitempty"`
	Code   string       `json:"code,omitempty"`   // CodeLostRace and so on
	Wanted *node.Digest `json:"wanted,omitempty"` // of a lost race: what should have been live
}

// The codes of SitePublished.
const (
	CodeLostRace = "lost_race"
	CodeMissing  = "missing_blobs"
	CodeNotReady = "not_ready"
	CodeUnknown  = "unknown"
	CodeFull     = "full"
	CodeLimit    = "limit"
	CodeFailed   = "failed"
)

// SiteProgress is a line of the answer to a SiteChange while it runs: how far a node is.
type SiteProgress struct {
	Node  string           `json:"node"`
	ID    string           `json:"id"` // of the node
	State deploy.NodeState `json:"state"`
	MS    float64          `json:"ms"` // since the change was asked for
	Bytes int64            `json:"bytes"`
	Total int64            `json:"total"`
	Error string           `json:"error,omitempty"`
}

// Limits of the pages of sites.
const (
	changeTimeout = 2 * time.Minute
	previewTime   = 7 * 24 * time.Hour
	longestText   = 1024 // bytes of By and Message
)

func siteRoutes(mux *http.ServeMux, n Sites) {
	mux.HandleFunc("GET /v1/sites", func(w http.ResponseWriter, r *http.Request) {
		list, err := n.List(r.Context())
		answerSite(w, list, err)
	})
	mux.HandleFunc("GET /v1/sites/{site}", named(func(w http.ResponseWriter, r *http.Request, name string) {
		sum, err := n.Show(r.Context(), name)
		answerSite(w, showSite(n, sum), err)
	}))
	mux.HandleFunc("DELETE /v1/sites/{site}", named(func(w http.ResponseWriter, r *http.Request, name string) {
		done, err := n.Delete(r.Context(), name, "")
		answerSite(w, done, err)
	}))
	mux.HandleFunc("GET /v1/sites/{site}/deploys/{id}", named(manifestPage(n)))
	mux.HandleFunc("POST /v1/sites/{site}/deploys", named(beginPage(n)))
	mux.HandleFunc("POST /v1/sites/{site}/blobs", named(blobsPage(n)))
	mux.HandleFunc("POST /v1/sites/{site}/live", named(livePage(n)))
	mux.HandleFunc("POST /v1/sites/{site}/rollback", named(rollbackPage(n)))
	mux.HandleFunc("POST /v1/sites/{site}/promote", named(promotePage(n)))
}

// ofSite returns the site that a request is about, or "" if it isn't about one.
func ofSite(r *http.Request) string {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/sites/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// takesStream reports whether a page reads its body itself, piece by piece.
func takesStream(r *http.Request) bool {
	return r.Method == http.MethodPost && ofSite(r) != "" &&
		(strings.HasSuffix(r.URL.Path, "/deploys") || strings.HasSuffix(r.URL.Path, "/blobs"))
}

// named calls page with the name of the site, if it is one.
func named(page func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("site")
		if err := node.CheckName(name); err != nil {
			refuse(w, http.StatusBadRequest, "site: "+err.Error())
			return
		}
		page(w, r, name)
	}
}

// answerSite writes v, or the error.
func answerSite(w http.ResponseWriter, v any, err error) {
	if err == nil {
		reply(w, http.StatusOK, v)
		return
	}
	status, out := siteFailure(err)
	reply(w, status, out)
}

// siteFailure returns the answer for an error.
func siteFailure(err error) (status int, out *SitePublished) {
	out = &SitePublished{Error: err.Error(), Code: CodeFailed}
	status = http.StatusServiceUnavailable
	lost, isLost := errors.AsType[*deploy.LostRaceError](err)
	_, isMissing := errors.AsType[*deploy.MissingError](err)
	switch {
	case isLost:
		status, out.Code, out.Wanted = http.StatusConflict, CodeLostRace, &lost.Wanted
		out.Published = &deploy.Published{Live: lost.Live}
	case isMissing:
		status, out.Code = http.StatusConflict, CodeMissing
	case errors.Is(err, deploy.ErrNotReady):
		status, out.Code = http.StatusConflict, CodeNotReady
	case errors.Is(err, ErrNotHere):
		status = http.StatusForbidden
	case errors.Is(err, deploy.ErrLimit):
		status, out.Code = http.StatusConflict, CodeLimit
	case errors.Is(err, deploy.ErrUnknownDeploy), errors.Is(err, deploy.ErrUnknownSite):
		status, out.Code = http.StatusNotFound, CodeUnknown
	case errors.Is(err, deploy.ErrManifest), errors.Is(err, deploy.ErrUnknownBlob), errors.Is(err, blob.ErrDigest):
		status = http.StatusBadRequest
	case errors.Is(err, blob.ErrFull):
		status, out.Code = http.StatusInsufficientStorage, CodeFull
	}
	return status, out
}

func beginPage(n Sites) func(http.ResponseWriter, *http.Request, string) {
	manifests := uploads{most: maxManifests, mostOfSite: maxManifestsOfSite}
	return func(w http.ResponseWriter, r *http.Request, name string) {
		leave, ok := manifests.enter(w, name)
		if !ok {
			return
		}
		defer leave()
		manifest, err := readManifest(bodyOf(w, r), r.ContentLength)
		switch {
		case err != nil:
			refuse(w, http.StatusBadRequest, "the manifest broke off: "+err.Error())
		case len(manifest) > site.MaxManifest:
			refuse(w, http.StatusRequestEntityTooLarge, "the manifest has more than 64 MiB")
		default:
			begun, err := n.Begin(r.Context(), name, manifest)
			answerSite(w, begun, err)
		}
	}
}

func blobsPage(n Sites) func(http.ResponseWriter, *http.Request, string) {
	requests := uploads{most: maxBlobs, mostOfSite: maxBlobsOfSite}
	return func(w http.ResponseWriter, r *http.Request, name string) {
		leave, ok := requests.enter(w, name)
		if !ok {
			return
		}
		defer leave()
		stored, err := takeBlobs(r.Context(), n.Upload(name), bufio.NewReaderSize(bodyOf(w, r), 64<<10))
		answerSite(w, map[string]int{"stored": stored}, err)
	}
}

// readChange reads the body of a change. It answers the request itself if that isn't one.
func readChange(w http.ResponseWriter, r *http.Request) (c SiteChange, ok bool) {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	wrong := ""
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		wrong = "the change isn't valid JSON: " + err.Error()
	case c.Wait != "" && c.Wait != WaitAll:
		wrong = `wait is "all" or left out`
	case len(c.By) > longestText || len(c.Message) > longestText:
		wrong = "by and message have at most 1024 bytes"
	case c.Preview != "":
		if err := node.CheckName(c.Preview); err != nil {
			wrong = "preview: " + err.Error()
		}
	}
	if wrong != "" {
		refuse(w, http.StatusBadRequest, wrong)
	}
	return c, wrong == ""
}

func livePage(n Sites) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, name string) {
		c, ok := readChange(w, r)
		if !ok {
			return
		}
		p := deploy.Publication{
			Preview: c.Preview, Until: c.Until, All: c.Wait == WaitAll, By: c.By, Message: c.Message,
		}
		if c.ID == nil {
			refuse(w, http.StatusBadRequest, "name the id of the deploy")
			return
		}
		p.ID = *c.ID
		if p.Preview != "" && p.Until.IsZero() {
			p.Until = time.Now().Add(previewTime)
		}
		if c.IfLive != nil {
			p.IfLive = &node.Digest{}
			if *c.IfLive != "" && p.IfLive.UnmarshalText([]byte(*c.IfLive)) != nil {
				refuse(w, http.StatusBadRequest, `if_live is the id of a deploy, or "" for nothing`)
				return
			}
		}
		publish(w, r, n, name, p)
	}
}

// publish makes a deploy live and writes a line for each answer of a node.
func publish(w http.ResponseWriter, r *http.Request, n Sites, name string, p deploy.Publication) {
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	begun, lines := time.Now(), &lines{w: w, out: http.NewResponseController(w)}
	done, err := n.Publish(ctx, name, p, func(a *deploy.Answer) {
		lines.write(http.StatusOK, SiteProgress{
			Node: a.Node, ID: a.NodeID, State: a.State, MS: float64(time.Since(begun).Microseconds()) / 1000,
			Bytes: a.Bytes, Total: a.Total, Error: a.Error,
		})
	})
	if err != nil {
		status, out := siteFailure(err)
		lines.write(status, out)
		return
	}
	lines.write(http.StatusOK, SitePublished{Published: done, URL: n.URL(name, p.Preview, p.ID)})
}

// lines writes an answer of JSON lines, each as soon as it is known. The first line decides the status.
type lines struct {
	w     http.ResponseWriter
	out   *http.ResponseController
	begun bool
}

func (l *lines) write(status int, v any) {
	line, err := json.Marshal(v)
	if err != nil {
		status, line = http.StatusInternalServerError, []byte(`{"error": "the answer can't be written as JSON"}`)
	}
	_ = l.out.SetWriteDeadline(time.Now().Add(tailTimeout)) // if this fails, so does Write
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.w.WriteHeader(status)
	}
	_, _ = l.w.Write(append(line, '\n')) // fails only if the operator has disconnected
	_ = l.out.Flush()
}

func rollbackPage(n Sites) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, name string) {
		c, ok := readChange(w, r)
		if !ok {
			return
		}
		var id node.Digest
		if c.ID != nil {
			id = *c.ID
		}
		done, err := n.Rollback(r.Context(), name, id, c.By, c.Message)
		answerChange(w, n, name, done, err)
	}
}

func promotePage(n Sites) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, name string) {
		c, ok := readChange(w, r)
		switch {
		case !ok:
			return
		case c.Preview == "":
			refuse(w, http.StatusBadRequest, "name the preview to promote")
			return
		}
		done, err := n.Promote(r.Context(), name, c.Preview, c.By, c.Message)
		answerChange(w, n, name, done, err)
	}
}

// answerChange writes the answer to a change that has no progress to tell.
func answerChange(w http.ResponseWriter, n Sites, name string, done *deploy.Published, err error) {
	if err != nil {
		answerSite(w, nil, err)
		return
	}
	reply(w, http.StatusOK, SitePublished{Published: done, URL: n.URL(name, "", done.Live)})
}

func manifestPage(n Sites) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, name string) {
		id, err := node.ParseDigest(r.PathValue("id"))
		if err != nil {
			refuse(w, http.StatusBadRequest, "the id of a deploy has 64 hexadecimal digits")
			return
		}
		manifest, err := n.Manifest(r.Context(), name, id)
		if err != nil {
			answerSite(w, nil, err)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // can't fail here
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(manifest) //nolint:gosec // G705: JSON with nosniff; it fails only if the operator has disconnected
	}
}
