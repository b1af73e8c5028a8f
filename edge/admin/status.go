package admin

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"millrace/mesh"
	"millrace/mesh/upstream"
)

// Reporter answers for readyz and status.
type Reporter interface {
	Status() Status
	// Journal lists the newest events in the node's life, the newest first.
	Journal(ctx context.Context) ([]JournalEntry, error)
	// RouteRates says what each route does of late, on this node.
	RouteRates() []RouteRates
	// Services lists who serves the services that the node knows of. It asks the other nodes.
	Services(ctx context.Context) Services
}

// Status is what a node says about itself. Degraded lists what isn't as it should be, each with what to do; a node may
// be ready though something is.
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
	Streams            int               `json:"streams"` // ends of streamed exchanges here, sockets too
	Upstreams          []upstream.Status `json:"upstreams"`
	Nodes              []mesh.Member     `json:"nodes"`
	Cache              CacheStatus       `json:"cache"`
	RefusedReload      *RefusedReload    `json:"refused_reload,omitempty"`
	NeedsRestart       []string          `json:"needs_restart"` // keys that the last reload couldn't apply
	Disk               DiskStatus        `json:"disk"`
}

// DiskStatus is the disk of the data directory.
type DiskStatus struct {
	FreeBytes   int64 `json:"free_bytes"`
	UsedBytes   int64 `json:"used_bytes"`   // by the streams of this node
	NeededBytes int64 `json:"needed_bytes"` // that they may still take
}

// CacheStatus is the cache in brief; /metrics has the rest.
type CacheStatus struct {
	Ready       bool  `json:"ready"` // this node follows the purges and may serve stored responses
	Entries     int   `json:"entries"`
	MemoryBytes int64 `json:"memory_bytes"`
	MemoryMax   int64 `json:"memory_limit_bytes"`
	BucketBytes int64 `json:"bucket_bytes"`
	BucketMax   int64 `json:"bucket_limit_bytes"`
	Purges      int   `json:"purges"` // that are remembered
}

// FullStatus is what /v1/status answers.
type FullStatus struct {
	Status
	Services *Services      `json:"services,omitempty"` // with ?services=true, since other nodes must be asked for them
	Routes   []RouteRates   `json:"routes"`             // of this node, in the last half to whole minute
	Journal  []JournalEntry `json:"journal"`
}

// JournalEntry is one event in the node's life.
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
