package exchange

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// Exchange is one HTTP request on its way through the policies, independent of the protocol version. One goroutine has
// it at a time, so policies change it without locks. Its strings may be kept for any time, except on the short way,
// where the front may reuse their memory for the next request.
type Exchange struct {
	// Set by the front.

	Method    string
	Target    string      // request target as received: origin-form, or absolute-form
	Header    mesh.Header // all fields as received, Host included
	Body      []byte      // the whole body, once it has been read; empty if it streams
	Length    int64       // of the body that Incoming has, or -1 if it isn't known
	Incoming  Incoming    // the body that hasn't been read yet; nil if there is none but Body
	Upgrade   Upgrade     // the protocol that the client wants to switch to
	Peer      netip.Addr  // the other end of the connection
	Scheme    string      // http or https; Accept replaces it by what a trusted proxy says
	HTTP10    bool        // HTTP/1.0: such requests may come without Host
	Penalized bool        // the client was refused for overload, came back early and was delayed
	Started   time.Time   // when the head was complete
	// Interim sends an interim response to the client (RFC 9110 §15.2); nil if the client can't have any, as in
	// HTTP/1.0.
	Interim func(status int, h mesh.Header)

	// Set by Accept and the policies.

	Host     string // canonical authority
	Path     string // canonical
	Query    string // as received, with its question mark; empty if there is none
	ID       string // request id
	Client   netip.Addr
	Trusted  bool // Peer is a trusted proxy
	Settings *Settings
	Route    *Route
	Params   []string // values of the route's parameters, in the pattern's order

	// Forward is the request for the target. Policies set its deadline, stream and upgrade; Prepare fills the rest.
	Forward mesh.Request
	Outcome Outcome

	private
}

// private holds the fields that only this package uses.
type private struct {
	target       string          // forwarded in place of Path and Query; see SetTarget
	encodedSlash bool            // the path holds an encoded slash
	listed       map[string]bool // fields, in lower case, that Connection lists
	streamed     atomic.Int64    // bytes of the body that were read as a stream
	locals       [maxLocals]any  // see Local
}

// Upgrade is a request to switch the connection to another protocol (RFC 9110 §7.8).
type Upgrade struct {
	Socket   bool   // the exchange is for a WebSocket (RFC 6455 §4.2.1), or for Protocol
	Offered  string // the protocols that the client offers, as a list
	Protocol string // the one of them that the route allows; empty for a WebSocket
}

// Outcome is what the policies record of the response beside its status, fields and body. It isn't part of
// mesh.Response because errors have it too, and because a response of the mesh needn't be copied to carry it.
type Outcome struct {
	Refusal    error            // why no route answers
	RefusedBy  *Route           // the route whose response rules apply to the refusal, if not the exchange's own
	Allow      string           // methods that the path takes, if the method was refused
	Last       bool             // the connection is closed after this request
	Penalize   bool             // refused for overload: the connection's next request is to be delayed
	Incomplete bool             // the response lacks parts of a gather, so it isn't stored
	OverLimit  string           // name of the limit that refused the request
	Cache      httpcache.Status // what the cache did
	Stored     Stored           // the head of a response that lies ready; nil if it is in the mesh.Response
}

// Incoming is a request's body that hasn't been read. Errors are *node.Error.
type Incoming interface {
	// ReadBody reads the whole body, which may have at most limit bytes.
	ReadBody(limit int64) ([]byte, error)
	// Stream returns the body as a stream of at most limit bytes. ReadBody still works if the stream is closed unread.
	Stream(limit int64) mesh.Body
	// Raw returns the bytes that follow the request, until the client ends the connection.
	Raw() mesh.Body
	// Messages returns what follows the request as whole WebSocket messages. Next waits until the socket is open.
	Messages() mesh.Body
	// Arrived reports whether the whole body has arrived and has no trailer fields.
	Arrived() bool
	// Watch starts to detect, while nothing is read, that the client ends the connection.
	Watch()
}

// Handler answers an exchange. An error that isn't a *node.Error counts as internal.
type Handler func(ctx context.Context, x *Exchange) (*mesh.Response, error)

// Param returns the value of a path parameter of the route, or "" if the route has none of that name.
func (x *Exchange) Param(name string) string {
	for i, n := range x.Route.ParamNames {
		if n == name {
			return x.Params[i]
		}
	}
	return ""
}

// Reset empties the exchange, for another request. Values stored under a Local that has a reset function are kept, so
// that their memory is used again; other values are dropped.
func (x *Exchange) Reset() {
	kept := x.locals
	*x = Exchange{}
	for i := range kept {
		if v := kept[i]; v != nil && resets[i] != nil {
			resets[i](v)
			x.locals[i] = v
		}
	}
}

// Detach returns a copy of the request that has no client: it doesn't end when the client of x disconnects, and the
// caller gets its response. It shares Body with x; Header is a copy.
func (x *Exchange) Detach() *Exchange {
	d := x.Sub()
	d.Method, d.Target, d.Body, d.HTTP10 = x.Method, x.Target, x.Body, x.HTTP10
	d.Header = append(mesh.Header(nil), x.Header...)
	d.Path, d.Query, d.encodedSlash = x.Path, x.Query, x.encodedSlash
	return d
}

// Sub returns another request on behalf of the same client, with the same settings, route and id. The caller sets
// method, target and fields. Every request that this node derives from one of a client is made by Sub.
func (x *Exchange) Sub() *Exchange {
	return &Exchange{
		Peer: x.Peer, Scheme: x.Scheme, Started: time.Now(), Host: x.Host, ID: x.ID, Client: x.Client,
		Trusted: x.Trusted, Settings: x.Settings, Route: x.Route, Params: x.Params,
	}
}

// MaxBody returns the size of the largest body that the route takes.
func (x *Exchange) MaxBody() node.Size {
	if x.Route.MaxBody != 0 {
		return x.Route.MaxBody
	}
	return x.Settings.MaxBody
}

// Timeout returns how long a request of the route may take.
func (x *Exchange) Timeout() time.Duration {
	if x.Route.Timeout != 0 {
		return x.Route.Timeout.Std()
	}
	return x.Settings.Timeout.Std()
}

// BytesIn returns the number of bytes of the request's body that were read.
func (x *Exchange) BytesIn() int64 { return int64(len(x.Body)) + x.streamed.Load() }

// For makes the exchange of a request that came another way than from a client's connection: from a member, or from
// another node. peer is who asks.
func For(set *Settings, peer netip.Addr, scheme, method, host string, header mesh.Header) *Exchange {
	return &Exchange{
		Method: method, Header: header, Scheme: scheme, Host: host, Peer: peer, Client: peer, Settings: set,
		Started: time.Now(),
	}
}

// Imagine returns the exchange that a request would have, without any client, to explain how it would be handled.
// target is a path or a URL; a path alone needs no Host.
func Imagine(set *Settings, method, target string, header mesh.Header) *Exchange {
	scheme := "http"
	if node.HasPrefixFold(target, "https:") {
		scheme = "https"
	}
	x := For(set, netip.Addr{}, scheme, method, "", header)
	x.Target, x.HTTP10 = target, true
	x.Accept(set)
	return x
}
