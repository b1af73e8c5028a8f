package publish

import (
	"time"

	"millrace/node"
)

// Summary says what is known of a site.
type Summary struct {
	Site     string             `json:"site"`
	Live     node.Digest        `json:"live"` // zero if nothing is
	Since    time.Time          `json:"since,omitzero"`
	By       string             `json:"by,omitempty"`
	Message  string             `json:"message,omitempty"`
	Files    int                `json:"files"`
	Bytes    int64              `json:"bytes"`
	Deploys  []Record           `json:"deploys"`           // newest first
	Previews map[string]Preview `json:"previews"`          // by name, those that haven't expired
	Changes  []Change           `json:"changes,omitempty"` // of what is live, newest first; of Site only
	Nodes    []Answer           `json:"nodes,omitempty"`   // how far each node is; of Site only
}

// Record describes a deploy of a site.
type Record struct {
	Manifest node.Blob `json:"manifest"` // its digest is the deploy's id
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`
	At       time.Time `json:"at"`
	By       string    `json:"by,omitempty"`
	Message  string    `json:"message,omitempty"`
}

// ID returns the id of the deploy.
func (r *Record) ID() node.Digest { return r.Manifest.Digest }

// Change is a record of what was live.
type Change struct {
	ID      node.Digest `json:"id"` // zero if the site was deleted
	At      time.Time   `json:"at"`
	By      string      `json:"by,omitempty"`
	Why     string      `json:"why"` // publish, rollback, promote or delete
	Message string      `json:"message,omitempty"`
}

// Preview is a deploy that is served under a host of its own.
type Preview struct {
	ID    node.Digest `json:"id"`
	Until time.Time   `json:"until"`
	At    time.Time   `json:"at"`
	By    string      `json:"by,omitempty"`
}

// Answer says how far a node is with what is live.
type Answer struct {
	Node  string      `json:"node"`
	State string      `json:"state"` // ready, bringing, failed, unaware, without or silent
	Live  node.Digest `json:"live"`
	Error string      `json:"error,omitempty"`
}

// NodeState is how far a node is with a deploy that goes live.
type NodeState struct {
	Node  string  `json:"node"`
	State string  `json:"state"` // as in Answer
	MS    float64 `json:"ms"`    // since the change was asked for
	Bytes int64   `json:"bytes"`
	Total int64   `json:"total"`
	Error string  `json:"error,omitempty"`
}

// Published is what a change did.
type Published struct {
	Live     node.Digest `json:"live"`
	Was      node.Digest `json:"was"` // what was live before; zero for nothing
	Revision uint64      `json:"revision,omitempty"`
	Preview  string      `json:"preview,omitempty"`
	URL      string      `json:"url,omitempty"` // empty if no route leads to the site
	Behind   []string    `json:"behind"`        // names of nodes that don't serve it yet
	TookMS   float64     `json:"took_ms"`       // from the change until the nodes served it
}

// siteChange asks for a change.
type siteChange struct {
	ID      *node.Digest `json:"id,omitempty"`
	IfLive  *string      `json:"if_live,omitempty"` // "" is nothing
	Preview string       `json:"preview,omitempty"`
	Until   time.Time    `json:"until,omitzero"`
	Wait    string       `json:"wait,omitempty"`
	By      string       `json:"by,omitempty"`
	Message string       `json:"message,omitempty"`
}

// The codes of a refusal.
const (
	codeLostRace = "lost_race"
	codeMissing  = "missing_blobs"
	codeNotReady = "not_ready"
)
