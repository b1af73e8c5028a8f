package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"millrace/edge"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
)

// ErrPortInUse means that another process listens on the address.
var ErrPortInUse = errors.New("address is in use")

// Operator is the node as the admin API sees it. Its methods are called from many goroutines.
type Operator interface {
	Status() Status
	// Journal lists the newest events in the node's life, the newest first.
	Journal(ctx context.Context) ([]JournalEntry, error)
	Routes() []edge.RouteInfo
	Explain(method, target string, header mesh.Header) Explanation
	RouteStats() []edge.RouteStats
	RouteRates() []RouteRates
	Services(ctx context.Context) Services
	CallStats() []edge.RouteStats
	MeshStats() []mesh.Stats
	// Purge makes stored responses invalid. The error is ErrPurge for one that can't be understood.
	Purge(ctx context.Context, p Purge) (Purged, error)
	CacheStats() (kvcache.Stats, []edge.CacheStats)
	// LimitUsage and ResetLimit are for one limit, or for all if name is empty. The error is ErrNoLimit if there is
	// none of the name.
	LimitUsage(ctx context.Context, name, key string) ([]LimitUsage, error)
	ResetLimit(ctx context.Context, name, key string) ([]string, error)
	LimitStats() (limit.Stats, []limit.RuleStats)
	// Reload applies the configuration file anew. The error is for the operator and names every mistake.
	Reload(ctx context.Context) (Reloaded, error)
	// Tail calls emit with the JSON of each event until ctx ends or emit returns false.
	Tail(ctx context.Context, emit func(event []byte) bool) error
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

// Reloaded says what a reload changed. NeedsRestart names the keys that changed but can't while the node runs. Warnings
// say what went wrong although the configuration is applied: requests that were cut off, or that it couldn't be saved;
// and what in the file is valid but can hardly be meant.
type Reloaded struct {
	Revision     int64    `json:"config_revision"`
	NeedsRestart []string `json:"needs_restart"`
	Warnings     []string `json:"warnings,omitempty"`
}

// Server serves the API.
type Server struct {
	cfg      node.Admin
	operator Operator
	log      *slog.Logger
	http     *http.Server
	listener net.Listener
	served   chan struct{}

	connections connections
	bodyTime    time.Duration // the constant; tests have less time
}

// New makes the server; Open listens.
func New(cfg node.Admin, operator Operator, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, operator: operator, log: log, served: make(chan struct{}), bodyTime: bodyTime}
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: s.connections.add, ConnState: s.connections.changed,
	}
	return s
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /v1/status": s.status,
		"GET /v1/routes": func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, s.operator.Routes())
		},
		"GET /v1/explain": s.explain, "GET /v1/tail": s.tail, "POST /v1/reload": s.reload, "POST /v1/purge": s.purge,
		"GET /v1/limits": s.limits, "DELETE /v1/limits": s.limits, "GET /v1/limits/{limit}/{key...}": s.limits,
		"DELETE /v1/limits/{limit}/{key...}": s.limits,
		"GET /metrics":                       metricsHandler(s.operator).ServeHTTP,
	} {
		mux.HandleFunc(pattern, h)
	}
	return s.guard(mux)
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	st := s.operator.Status()
	status := http.StatusOK
	if !st.Ready {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, map[string]any{"ready": st.Ready, "degraded": st.Degraded})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	journal, err := s.operator.Journal(r.Context())
	if err != nil {
		s.log.WarnContext(r.Context(), "journal can't be read", "cause", err)
	}
	st := FullStatus{Status: s.operator.Status(), Routes: s.operator.RouteRates(), Journal: journal}
	if r.URL.Query().Get("services") == "true" {
		services := s.operator.Services(r.Context())
		st.Services = &services
	}
	reply(w, http.StatusOK, st)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	method, target := q.Get("method"), q.Get("url")
	if method == "" {
		method = http.MethodGet
	}
	if target == "" {
		refuse(w, http.StatusBadRequest, "name the request: /v1/explain?method=GET&url=/path")
		return
	}
	var header mesh.Header
	for _, line := range q["header"] {
		if name, value, ok := strings.Cut(line, ":"); ok {
			header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	reply(w, http.StatusOK, s.operator.Explain(method, target, header))
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	done, err := s.operator.Reload(r.Context())
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	reply(w, http.StatusOK, done)
}

// tailPatience is how long a reader of events may take none.
const tailPatience = 10 * time.Second

// tail streams events, one JSON object a line, until the operator goes away.
func (s *Server) tail(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if out.Flush() != nil {
		return
	}
	err := s.operator.Tail(r.Context(), func(event []byte) bool {
		_ = out.SetWriteDeadline(time.Now().Add(tailPatience)) // a connection without deadlines fails at the write
		_, err := w.Write(append(event, '\n'))
		return err == nil && out.Flush() == nil
	})
	if err != nil && r.Context().Err() == nil {
		s.log.WarnContext(r.Context(), "tail ended", "cause", err)
	}
}

// Open listens and serves until Shutdown. It fails with ErrPortInUse if somebody else has the port.
func (s *Server) Open(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(s.cfg.Listen))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.Join(ErrPortInUse, err)
		}
		return fmt.Errorf("listen on %s for the operator: %w", s.cfg.Listen, err)
	}
	s.listener = l
	go func() {
		defer close(s.served)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.ErrorContext(ctx, "admin API stopped serving", "cause", err)
		}
	}()
	return nil
}

// Addr is the address that the server listens on, with its real port. Empty before Open.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Close ends the API at once: it serves operators, not clients.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	err := s.http.Close()
	<-s.served
	if err != nil {
		return fmt.Errorf("close the admin API: %w", err)
	}
	return nil
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error": "the answer can't be written as JSON"}`)
	}
	// It can't fail on a connection of http.Server.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the operator went away
}

func refuse(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"error": text})
}
