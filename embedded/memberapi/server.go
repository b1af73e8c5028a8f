package memberapi

import (
	"context"
	"log/slog"
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// Config has what the APIs use. All fields must be set.
type Config struct {
	Conn    *mesh.Conn // open; also used for the calls of services
	Values  Values
	Limits  Limits
	Gather  Gatherer
	Applied func() *node.Config // returns the configuration that is applied now
	Log     *slog.Logger
}

// Server answers on all subjects of the API from Open to Close.
type Server struct {
	conn *mesh.Conn
	apis []*api
}

// New allocates the server. Open subscribes.
func New(cfg Config) *Server {
	return &Server{conn: cfg.Conn, apis: []*api{
		newAPI("cache.*", values{cfg.Values}.answer),
		newAPI("limit.*", limits{cfg.Limits}.answer),
		newAPI("gather", (&gather{cfg.Gather, cfg.Applied, cfg.Log}).answer),
		newAPI("call.*", calls{cfg.Conn, cfg.Applied}.answer),
	}}
}

// Open subscribes. It fails only if the connection is closed; Close ends what it has started then.
func (s *Server) Open(context.Context) error {
	for _, a := range s.apis {
		if err := a.open(s.conn); err != nil {
			return err
		}
	}
	return nil
}

// Close cancels running requests and waits for them. It may be called without Open, and again.
func (s *Server) Close() error {
	for _, a := range slices.Backward(s.apis) {
		a.close()
	}
	return nil
}
