package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Purger answers for purge.
type Purger interface {
	// Purge makes stored responses invalid. The error is ErrPurge for one that can't be understood.
	Purge(ctx context.Context, p Purge) (Purged, error)
}

// Purge says which stored responses to make invalid: exactly one of URL, Prefix, Host, Tag and All.
type Purge struct {
	URL string `json:"url,omitempty"` // http://host/path?query, or /path?query of every host; all variants of it
	// http://host/beginning of the path, or /beginning of the path of every host
	Prefix string `json:"prefix,omitempty"`
	Host   string `json:"host,omitempty"`
	Tag    string `json:"tag,omitempty"`
	All    bool   `json:"all,omitempty"`
	Soft   bool   `json:"soft,omitempty"` // they become stale and aren't gone
	Wait   string `json:"wait,omitempty"` // WaitAll, or empty for this node only
}

// Valid reports whether exactly one thing is named.
func (p Purge) Valid() bool {
	named := 0
	for _, yes := range [...]bool{p.URL != "", p.Prefix != "", p.Host != "", p.Tag != "", p.All} {
		if yes {
			named++
		}
	}
	return named == 1
}

// WaitAll waits until every node has applied a purge, or gives out nothing that it reaches.
const WaitAll = "all"

// String says what is purged, for the journal and for people.
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

// Purged says that a purge counts. Nodes lists those that were waited for.
type Purged struct {
	Sequence uint64       `json:"sequence"`
	TookMS   float64      `json:"took_ms"`
	Nodes    []PurgedNode `json:"nodes"`
}

// PurgedNode says how a node stands to a purge: applied, or lease-ended when it didn't answer but gives out nothing
// until it has applied it.
type PurgedNode struct {
	Node    string  `json:"node"`
	ID      string  `json:"id"`
	State   string  `json:"state"`
	AfterMS float64 `json:"after_ms"`
}

// ErrPurge means that a purge can't be understood; the error says why.
var ErrPurge = errors.New("nothing was purged")

// purgeForm is what the body of a purge looks like.
const purgeForm = `name exactly one of "url": "/path" or "http://host/path", "prefix": "/beginning" or ` +
	`"http://host/beginning", "host": "name", "tag": "name" and "all": true`

// purgePatience bounds a purge: a lease, and what the store may need.
const purgePatience = 10 * time.Second

func purgePage(node Purger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, wrong := readPurge(r)
		if wrong != "" {
			refuse(w, http.StatusBadRequest, wrong)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), purgePatience)
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

// readPurge reads the body of a purge. What is wrong with it is told in words for the operator; empty if nothing is.
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
