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

// targetHandler returns a handler that sends requests to the route's target.
func (s *Server) targetHandler(r node.Route) exchange.Handler {
	to := r.Origin()
	switch to.Kind {
	case node.KindService, node.KindUpstream:
		return s.call(destinationOf(s.mesh, to))
	case node.KindNATS:
		forward := r.ForwardHeaders
		if len(forward) == 0 {
			forward = mesh.DefaultForwardHeaders
		}
		return callPlain(s.mesh, to.Subject, forward)
	case node.KindSite: // see Origin
	}
	if len(r.Sites()) > 0 { // their policy answers, if the node has sites
		return refuse(node.Errorf(node.CodeUnavailable, nil, "this node serves no sites"))
	}
	return refuse(node.Errorf(node.CodeInternal, errors.New("route has no target"), "the route has no target"))
}

// destinationOf returns the mesh destination of a target of kind service or upstream.
func destinationOf(conn *mesh.Conn, to node.Target) mesh.Destination {
	if to.Kind == node.KindUpstream {
		return conn.Upstream(to.Name)
	}
	return conn.Service(to.Name)
}

// call returns a handler that sends requests to a service or an upstream.
func (s *Server) call(to mesh.Destination) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) { return s.send(ctx, to, x) }
}

// send sends the request. If its body streams and no member takes streams, send reads the body and sends the request
// again as one message. That is possible because nothing of the body was read before.
func (s *Server) send(ctx context.Context, to mesh.Destination, x *exchange.Exchange) (*mesh.Response, error) {
	req := x.Prepare()
	resp, err := s.mesh.Do(ctx, to, req)
	if req.Stream == nil || x.Upgrade.Socket || node.CodeOf(err) != node.CodeNoMember {
		return dropResetContent(resp), err
	}
	req.Stream = nil
	if err := x.ReadBody(); err != nil {
		return nil, err
	}
	if err := s.enterInFlight(x); err != nil {
		return nil, err
	}
	defer s.admission.leave()
	req.Body, req.Deadline = x.Body, time.Now().Add(x.Timeout())
	resp, err = s.mesh.Do(ctx, to, req)
	return dropResetContent(resp), err
}

// dropResetContent removes the content of a 205, which must have none (RFC 9110 §15.3.6).
func dropResetContent(resp *mesh.Response) *mesh.Response {
	if resp == nil || resp.Status != http.StatusResetContent || (len(resp.Body) == 0 && resp.Stream == nil) {
		return resp
	}
	exchange.CloseBody(resp)
	resp.Header.Delete(exchange.OfContent)
	resp.Body, resp.Stream, resp.Length = nil, nil, 0
	return resp
}

// callPlain returns a handler that sends requests to a plain NATS subject.
func callPlain(conn *mesh.Conn, subject node.Subject, forward []string) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		s, err := subject.Expand(x.Param)
		if err != nil {
			return nil, node.Errorf(node.CodeNotFound, err, "no route matches the request")
		}
		resp, err := conn.DoPlain(ctx, s, x.Prepare(), forward)
		return dropResetContent(resp), err
	}
}

// refuse returns a handler that always returns err.
func refuse(err error) exchange.Handler {
	return func(context.Context, *exchange.Exchange) (*mesh.Response, error) { return nil, err }
}
