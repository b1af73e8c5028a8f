package embedded

import (
	"context"
	"log/slog"
	"sync/atomic"

	"millrace/edge"
	"millrace/embedded/memberapi"
	"millrace/node"
)

// memberAPI serves the APIs that members call.
type memberAPI struct {
	log     *slog.Logger
	applied *atomic.Pointer[node.Config]
	mesh    *meshConn
	cache   *cache
	limits  *limits
	edge    *edgeServer

	server *memberapi.Server // nil before open
}

func (a *memberAPI) open(ctx context.Context) error {
	a.server = memberapi.New(memberapi.Config{
		Conn: a.mesh.conn, Values: a.cache.kv.Values(), Limits: a.limits, Gather: gatherer{a.edge.server, a.cache},
		Applied: a.applied.Load, Log: a.log,
	})
	return a.server.Open(ctx)
}

func (a *memberAPI) close() error {
	if a.server == nil {
		return nil
	}
	return a.server.Close()
}

// gatherer implements memberapi.Gatherer: the edge makes the calls, and uses the cache.
type gatherer struct {
	*edge.Server
	*cache
}
