package memberapi

import (
	"context"
	"log/slog"
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// Config says whom the APIs ask. All fields must be set.
type Config struct {
	Conn    *mesh.Conn // open; it is asked for the calls of services, too
	Values  Values
	Limits  Limits
	Gather  Gatherer
	Applied func() *node.Config // gives the configuration that is applied now
	Log     *slog.Logger
}

// Server answers on all subjects of the API between Open and Close.
type Server struct {
	conn *mesh.Conn
	apis []*api
}

// New makes the server; Open subscribes.
func New(cfg Config) *Server {
	return &Server{conn: cfg.Conn, apis: []*api{
		newAPI("cache.*", values{cfg.Values}.answer),
		newAPI("limit.*", limits{cfg.Limits}.answer),
		newAPI("gather", (&gather{cfg.Gather, cfg.Applied, cfg.Log}).answer),
		newAPI("call.*", calls{cfg.Conn, cfg.Applied}.answer),
	}}
}

// Open begins to answer. It fails only if the connection is closed; what it has begun then is ended by Close.
func (s *Server) Open(context.Context) error {
	for _, a := range s.apis {
		if err := a.open(s.conn); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the requests that run and waits for them. It may be called without Open, and again.
func (s *Server) Close() error {
	for _, a := range slices.Backward(s.apis) {
		a.close()
	}
	return nil
}
