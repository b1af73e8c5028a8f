package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"millrace/node"
)

// ErrPortInUse means that another process listens on the address.
var ErrPortInUse = errors.New("address is in use")

// Node is what the API needs of the node, by page. All fields must be set. Their methods are called from many
// goroutines.
type Node struct {
	Status  Reporter  // readyz and status
	Routes  Explainer // routes and explain
	Metrics Counter
	Purges  Purger
	Limits  Limiter
	Reload  Reloader
	Tail    Tailer
	Sites   Sites
}

// Server is the HTTP server of the API.
type Server struct {
	cfg      node.Admin
	log      *slog.Logger
	http     *http.Server
	listener net.Listener
	served   chan struct{} // closed by Open's goroutine when it has stopped serving

	siteToken   func(site string) string // Sites.SiteToken
	connections connections
	bodyTimeout time.Duration // the constant, but in tests
}

// New returns a server that doesn't listen yet; see Open.
func New(cfg node.Admin, n Node, log *slog.Logger) *Server {
	s := &Server{
		cfg: cfg, log: log, served: make(chan struct{}), siteToken: n.Sites.SiteToken,
		bodyTimeout: bodyTimeout,
	}
	s.http = &http.Server{
		Handler: s.guard(handler(n, log)), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: s.connections.add, ConnState: s.connections.changed,
	}
	return s
}

// handler serves every page, to requests that guard has let through.
func handler(n Node, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("GET /readyz", readyPage(n.Status))
	mux.HandleFunc("GET /v1/status", statusPage(n.Status, log))
	mux.HandleFunc("GET /v1/routes", routesPage(n.Routes))
	mux.HandleFunc("GET /v1/explain", explainPage(n.Routes))
	mux.HandleFunc("POST /v1/purge", purgePage(n.Purges))
	limits := limitsPage(n.Limits)
	mux.HandleFunc("GET /v1/limits", limits)
	mux.HandleFunc("DELETE /v1/limits", limits)
	mux.HandleFunc("GET /v1/limits/{limit}/{key...}", limits)
	mux.HandleFunc("DELETE /v1/limits/{limit}/{key...}", limits)
	mux.HandleFunc("POST /v1/reload", reloadPage(n.Reload))
	mux.HandleFunc("GET /v1/tail", tailPage(n.Tail, log))
	siteRoutes(mux, n.Sites)
	mux.Handle("GET /metrics", metricsPage(n.Metrics))
	return mux
}

// health always answers ok.
func health(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

// Open listens and serves until Close. The error is ErrPortInUse if another process has the port.
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

// Addr returns the address that the server listens on, with its real port. It is empty before Open.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Close stops the server and closes its connections at once.
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

// reply writes v as JSON.
func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error": "the answer can't be written as JSON"}`)
	}
	// This can't fail on a connection of http.Server.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // fails only if the operator has disconnected
}

// refuse writes an error as JSON.
func refuse(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"error": text})
}
