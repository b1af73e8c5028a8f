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

// adminServer is the listener of the admin API.
type adminServer struct {
	cfg  *node.Config
	log  *slog.Logger
	node admin.Node // what it answers from

	server *admin.Server // nil before open
}

func (a *adminServer) open(ctx context.Context) error {
	server := admin.New(a.cfg.Admin, a.node, a.log)
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
	return a.server.Close()
}

// url is the address of the admin API.
func (a *adminServer) url() string { return "http://" + node.Address(a.server.Addr()).Dial() }

// events are those of all nodes of the mesh. It implements admin.Tailer.
type events struct{ mesh *meshConn }

// tailBuffer bounds the events that wait for a slow reader. When it is full, further events are dropped.
const tailBuffer = 1024

// Tail passes the events of all nodes of the mesh to emit, until ctx ends or emit returns false.
func (e *events) Tail(ctx context.Context, emit func(event []byte) bool) error {
	conn := e.mesh.conn
	events := make(chan *nats.Msg, tailBuffer) // when it is full, NATS drops; unsubscribing stops the sender
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
