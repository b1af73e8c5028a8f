package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Purger is what the page purge needs of the node.
type Purger interface {
	// Purge invalidates stored responses. The error is ErrPurge if p is invalid.
	Purge(ctx context.Context, p Purge) (Purged, error)
}

// Purge says which stored responses to invalidate: exactly one of URL, Prefix, Host, Tag and All.
type Purge struct {
	URL string `json:"url,omitempty"` // http://host/path?query, or /path?query of every host; with all variants
	// http://host/beginning of the path, or /beginning of the path of every host
	Prefix string `json:"prefix,omitempty"`
	Host   string `json:"host,omitempty"`
	Tag    string `json:"tag,omitempty"`
	All    bool   `json:"all,omitempty"`
	Soft   bool   `json:"soft,omitempty"` // they become stale, and aren't removed
	Wait   string `json:"wait,omitempty"` // WaitAll, or empty for this node only
}

// Valid reports whether exactly one of URL, Prefix, Host, Tag and All is set.
func (p Purge) Valid() bool {
	named := 0
	for _, yes := range [...]bool{p.URL != "", p.Prefix != "", p.Host != "", p.Tag != "", p.All} {
		if yes {
			named++
		}
	}
	return named == 1
}

// WaitAll waits until every node has applied the purge, or can't serve responses that it invalidates.
const WaitAll = "all"

// String describes the purge, for the journal and for people. Text of clients is quoted where needed: see Show.
func (p Purge) String() string {
	kind, text, where := "all", "", ""
	for _, n := range []struct{ kind, text string }{
		{"url", p.URL},
		{"prefix", p.Prefix},
		{"host", p.Host},
		{"tag", p.Tag},
	} {
		if n.text != "" {
			kind, text = n.kind, " "+Show(n.text)
		}
	}
	if strings.HasPrefix(p.URL+p.Prefix, "/") {
		where = " of every host"
	}
	if p.Soft {
		kind = "soft " + kind
	}
	return kind + text + where
}

// Purged is the answer to a purge that is in effect. Nodes lists the nodes that were waited for.
type Purged struct {
	Sequence uint64       `json:"sequence"`
	TookMS   float64      `json:"took_ms"`
	Nodes    []PurgedNode `json:"nodes"`
}

// PurgedNode is the state of a node after a purge: applied, or lease-ended if it didn't answer; it then serves nothing
// of the cache until it has applied the purge.
type PurgedNode struct {
	Node    string  `json:"node"`
	ID      string  `json:"id"`
	State   string  `json:"state"`
	AfterMS float64 `json:"after_ms"`
}

// ErrPurge means that a purge is invalid; the error says why.
var ErrPurge = errors.New("nothing was purged")

// purgeForm tells the operator what the body of a purge must be.
const purgeForm = `name exactly one of "url": "/path" or "http://host/path", "prefix": "/beginning" or ` +
	`"http://host/beginning", "host": "name", "tag": "name" and "all": true`

// purgeTimeout bounds a purge. It is longer than a lease and a slow write to the store together.
const purgeTimeout = 10 * time.Second

func purgePage(node Purger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, wrong := readPurge(r)
		if wrong != "" {
			refuse(w, http.StatusBadRequest, wrong)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), purgeTimeout)
		defer cancel()
		done, err := node.Purge(ctx, req)
		switch {
		case errors.Is(err, ErrPurge):
			refuse(w, http.StatusBadRequest, err.Error())
		case err != nil:
			refuse(w, http.StatusServiceUnavailable, err.Error())
		default:
			reply(w, http.StatusOK, done)
		}
	}
}

// readPurge reads the body of a purge. wrong tells the operator what is wrong with it, or is empty.
func readPurge(r *http.Request) (req Purge, wrong string) {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	switch err := dec.Decode(&req); {
	case err != nil:
		return req, "the purge isn't valid JSON (" + err.Error() + "): " + purgeForm
	case !req.Valid():
		return req, purgeForm
	case req.Wait != "" && req.Wait != WaitAll:
		return req, `wait is "all" or left out`
	}
	return req, ""
}
