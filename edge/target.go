package edge

import (
	"context"
	"errors"
	"net/http"
	"time"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// targetHandler makes the end of a route's chain: the call to the mesh.
func (s *Server) targetHandler(r node.Route) exchange.Handler {
	switch r.To.Kind {
	case node.KindService, node.KindUpstream:
		return s.call(destinationOf(s.mesh, r.To))
	case node.KindNATS:
		forward := r.ForwardHeaders
		if len(forward) == 0 {
			forward = mesh.DefaultForwardHeaders
		}
		return plain(s.mesh, r.To.Subject, forward)
	}
	return refuse(node.Errorf(node.CodeInternal, errors.New("route has no target"), "the route has no target"))
}

// destinationOf gives who a target of kind service or upstream is.
func destinationOf(conn *mesh.Conn, to node.Target) mesh.Destination {
	if to.Kind == node.KindUpstream {
		return conn.Upstream(to.Name)
	}
	return conn.Service(to.Name)
}

// call asks a service or an upstream.
func (s *Server) call(to mesh.Destination) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) { return s.ask(ctx, to, x) }
}

// ask sends the request. If it has a stream and no member takes streams, it is sent again as one message, as far as it
// fits: nothing of the body was read.
func (s *Server) ask(ctx context.Context, to mesh.Destination, x *exchange.Exchange) (*mesh.Response, error) {
	req := x.Prepare()
	resp, err := s.mesh.Do(ctx, to, req)
	if req.Stream == nil || x.Upgrade.Socket || node.CodeOf(err) != node.CodeNoMember {
		return reset(resp), err //nolint:wrapcheck // a *node.Error already
	}
	req.Stream = nil
	if err := x.ReadBody(); err != nil {
		return nil, err
	}
	if err := s.enterFlight(x); err != nil {
		return nil, err
	}
	defer s.admission.leave()
	req.Body, req.Deadline = x.Body, time.Now().Add(x.Timeout())
	resp, err = s.mesh.Do(ctx, to, req)
	return reset(resp), err //nolint:wrapcheck // see above
}

// reset takes the content from a 205, which has none (RFC 9110 §15.3.6). One that comes without stays as it is.
func reset(resp *mesh.Response) *mesh.Response {
	if resp == nil || resp.Status != http.StatusResetContent || (len(resp.Body) == 0 && resp.Stream == nil) {
		return resp
	}
	exchange.CloseBody(resp)
	resp.Header.Delete(exchange.OfContent)
	resp.Body, resp.Stream, resp.Length = nil, nil, 0
	return resp
}

// plain asks a service that knows plain NATS only.
func plain(conn *mesh.Conn, subject node.Subject, forward []string) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		s, err := subject.Expand(x.Param)
		if err != nil {
			return nil, node.Errorf(node.CodeNotFound, err, "no route matches the request")
		}
		resp, err := conn.DoPlain(ctx, s, x.Prepare(), forward)
		return reset(resp), err //nolint:wrapcheck // a *node.Error already
	}
}

// refuse answers every request with the error.
func refuse(err error) exchange.Handler {
	return func(context.Context, *exchange.Exchange) (*mesh.Response, error) { return nil, err }
}
