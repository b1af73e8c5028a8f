package admin

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"millrace/kvcache/deploy"
	"millrace/mesh"
	"millrace/mesh/upstream"
)

// Reporter is what the pages readyz and status need of the node.
type Reporter interface {
	Status() Status
	// Journal returns the newest entries of the node's journal, the newest first.
	Journal(ctx context.Context) ([]JournalEntry, error)
	// RouteRates returns the rates of each route on this node in the last half to whole minute.
	RouteRates() []RouteRates
	// Services returns the services that the node knows of, and their members. It asks the other nodes.
	Services(ctx context.Context) Services
}

// Status is the state of a node. Degraded lists what is wrong and what to do about it. A node may be degraded and
// ready.
type Status struct {
	Node               string            `json:"node"`
	ID                 string            `json:"id"`
	Version            string            `json:"version"`
	Started            time.Time         `json:"started"`
	Ready              bool              `json:"ready"`
	Degraded           []string          `json:"degraded"`
	Revision           int64             `json:"config_revision"`
	Edge               string            `json:"edge"`
	NATS               string            `json:"nats"`
	JetStream          string            `json:"jetstream"` // current, joining, remote or disabled
	InFlight           int               `json:"in_flight"`
	Connections        int               `json:"connections"`
	RefusedConnections uint64            `json:"refused_connections"`
	Refused            uint64            `json:"refused_requests"` // for overload
	Buffered           int64             `json:"buffered_bytes"`
	Streams            int               `json:"streams"` // ends of streams on this node, sockets included
	Upstreams          []upstream.Status `json:"upstreams"`
	Nodes              []mesh.Member     `json:"nodes"`
	Cache              CacheStatus       `json:"cache"`
	RefusedReload      *RefusedReload    `json:"refused_reload,omitempty"`
	NeedsRestart       []string          `json:"needs_restart"` // keys of the last reload that need a restart
	Disk               DiskStatus        `json:"disk"`
	Sites              SitesStatus       `json:"sites"`
}

// SitesStatus is what this node has of the sites of the mesh.
type SitesStatus struct {
	Follows     bool                `json:"follows"` // it follows deploys, since a route serves a site
	Files       int                 `json:"files"`   // on this node's disk
	DiskBytes   int64               `json:"disk_bytes"`
	DiskMax     int64               `json:"disk_limit_bytes"`
	MemoryBytes int64               `json:"memory_bytes"`
	MemoryMax   int64               `json:"memory_limit_bytes"`
	BadDigests  int64               `json:"bad_digests"`  // files and chunks with wrong bytes, since the start
	FetchErrors int64               `json:"fetch_errors"` // since the start
	List        []deploy.NodeStatus `json:"list"`         // the sites by name
}

// DiskStatus describes the disk of the data directory.
type DiskStatus struct {
	FreeBytes   int64 `json:"free_bytes"`
	UsedBytes   int64 `json:"used_bytes"`   // by the streams of this node
	NeededBytes int64 `json:"needed_bytes"` // that the streams may still use
}

// CacheStatus is a summary of the cache; /metrics has the rest.
type CacheStatus struct {
	Ready       bool  `json:"ready"` // this node gets the purges, so it may serve stored responses
	Entries     int   `json:"entries"`
	MemoryBytes int64 `json:"memory_bytes"`
	MemoryMax   int64 `json:"memory_limit_bytes"`
	BucketBytes int64 `json:"bucket_bytes"`
	BucketMax   int64 `json:"bucket_limit_bytes"`
	Purges      int   `json:"purges"` // that the node remembers
}

// FullStatus is the answer of /v1/status.
type FullStatus struct {
	Status
	Services *Services      `json:"services,omitempty"` // only with ?services=true, since it asks other nodes
	Routes   []RouteRates   `json:"routes"`             // on this node, in the last half to whole minute
	Journal  []JournalEntry `json:"journal"`
}

// JournalEntry is one entry of the node's journal.
type JournalEntry struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Detail string    `json:"detail"`
}

func readyPage(node Reporter) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		st := node.Status()
		status := http.StatusOK
		if !st.Ready {
			status = http.StatusServiceUnavailable
		}
		reply(w, status, map[string]any{"ready": st.Ready, "degraded": st.Degraded})
	}
}

func statusPage(node Reporter, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		journal, err := node.Journal(r.Context())
		if err != nil {
			log.WarnContext(r.Context(), "journal can't be read", "cause", err)
		}
		st := FullStatus{Status: node.Status(), Routes: node.RouteRates(), Journal: journal}
		if r.URL.Query().Get("services") == "true" {
			services := node.Services(r.Context())
			st.Services = &services
		}
		reply(w, http.StatusOK, st)
	}
}
