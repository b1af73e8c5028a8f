package embedded

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/node"
)

// adminServer is the operator's API.
type adminServer struct {
	cfg   *node.Config
	log   *slog.Logger
	pages admin.Node // what it answers from

	server *admin.Server // nil before open
}

func (a *adminServer) open(ctx context.Context) error {
	server := admin.New(a.cfg.Admin, a.pages, a.log)
	if err := server.Open(ctx); err != nil {
		return fmt.Errorf("open admin API (admin.listen): %w", err)
	}
	a.server = server
	return nil
}

func (a *adminServer) close() error {
	if a.server == nil {
		return nil
	}
	return a.server.Close() //nolint:wrapcheck // the node says what it was
}

// url is where the operator connects.
func (a *adminServer) url() string { return "http://" + node.Address(a.server.Addr()).Dial() }

// events are those of every node of the mesh. It is admin.Tailer.
type events struct{ mesh *meshConn }

// tailBuffer bounds the events that wait for a slow reader; more are dropped.
const tailBuffer = 1024

// Tail passes on the events of every node of the mesh until ctx ends or emit returns false.
func (e *events) Tail(ctx context.Context, emit func(event []byte) bool) error {
	conn := e.mesh.conn
	events := make(chan *nats.Msg, tailBuffer) // NATS drops what doesn't fit; the subscription's end stops the sender
	for _, subject := range [...]string{edge.TailSubject, "event.limit.>"} {
		sub, err := conn.NATS().ChanSubscribe(conn.PlainSubject(subject), events)
		if err != nil {
			return fmt.Errorf("subscribe to events: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-events:
			if !emit(msg.Data) {
				return nil
			}
		}
	}
}
