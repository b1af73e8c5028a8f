package exchange

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// Exchange is one HTTP request on its way through the policies, whatever protocol brought it. One goroutine has it at a
// time, so policies change it without locks. Its strings stay valid for as long as anybody keeps them.
type Exchange struct {
	// Set by the front.

	Method    string
	Target    string      // request target as received: origin-form, or absolute-form
	Header    mesh.Header // all fields as received, Host included
	Body      []byte      // whole, once it has been read, unless it streams
	Length    int64       // of the body that Incoming has, or -1
	Incoming  Incoming    // the body that hasn't been read yet; nil if Body is all there is
	Upgrade   Upgrade     // another protocol that the connection is to be switched to
	Peer      netip.Addr  // who is connected
	Scheme    string      // http or https: as this node sees it, then as a trusted proxy tells it
	HTTP10    bool        // HTTP/1.0: such requests may come without Host
	Penalized bool        // the client was refused for overload, asked again at once, and was made to wait
	Started   time.Time   // when the head was complete
	// Interim sends an interim response to the client; nil if it can't have any.
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

	// Forward becomes the request to the target; see Prepare.
	Forward mesh.Request
	Outcome Outcome

	private
}

// private is what only this package reads.
type private struct {
	target       string          // asked for in place of Path and Query; see SetTarget
	encodedSlash bool            // the path holds an encoded slash
	listed       map[string]bool // fields, in lower case, that Connection lists
	streamed     atomic.Int64    // bytes of the body that were read as a stream
	slots        [maxSlots]any   // see Slot
}

// Upgrade is the wish to switch the connection to another protocol (RFC 9110 §7.8).
type Upgrade struct {
	Socket   bool   // the exchange is for a WebSocket (RFC 6455 §4.2.1), or for Protocol
	Offered  string // the protocols that the client offers, as a list
	Protocol string // the one of them that the route lets pass; empty for a WebSocket
}

// Outcome is what becomes known of the response beside status, fields and body. It is apart from mesh.Response because
// errors have it too, and because a response that came over the mesh needn't be copied to carry it.
type Outcome struct {
	Refusal    error            // why no route answers
	RefusedBy  *Route           // the route whose rules hold for the refusal, if it isn't the exchange's
	Allow      string           // methods that the path takes, with a refusal for the method
	Last       bool             // the connection ends with this request
	Penalize   bool             // refused for overload: the connection's next request shall wait
	Incomplete bool             // the response lacks parts, so nobody keeps it
	OverLimit  string           // name of the limit that has refused the request
	Cache      httpcache.Status // what the cache did
	Stored     *Stored          // the response comes from the store; the front writes it from there
}

// Incoming is a body that is still on its way. Errors are *node.Error.
type Incoming interface {
	// ReadBody reads all of it, if it has at most limit bytes.
	ReadBody(limit int64) ([]byte, error)
	// Stream gives it in pieces, if it has at most limit bytes. ReadBody still works if the stream is closed unread.
	Stream(limit int64) mesh.Body
	// Raw gives what follows the request until the client ends the connection.
	Raw() mesh.Body
	// Messages gives what follows the request as whole messages of a WebSocket, once the socket is open.
	Messages() mesh.Body
	// Arrived reports whether all of it is here, and has no trailer fields.
	Arrived() bool
	// Watch looks for the client's end while nothing is read.
	Watch()
}

// Handler answers an exchange. An error is a *node.Error, or counts as internal.
type Handler func(ctx context.Context, x *Exchange) (*mesh.Response, error)

// Param gives the value of a path parameter of the route; empty if the route has none of that name.
func (x *Exchange) Param(name string) string {
	for i, n := range x.Route.ParamNames {
		if n == name {
			return x.Params[i]
		}
	}
	return ""
}

// Reset makes the exchange as new. It keeps the memory of its slots, each of which is emptied by its owner: see Slot.
func (x *Exchange) Reset() {
	slots := x.slots
	*x = Exchange{}
	for i, s := range slots {
		if s, ok := s.(resetter); ok {
			s.Reset()
			x.slots[i] = s
		}
	}
}

// Detach gives a copy of the request with an end of its own: no client's going away concerns it, and what it is
// answered with is for whoever detached it. Body is that of the original, Header a copy.
func (x *Exchange) Detach() *Exchange {
	d := x.Sub()
	d.Method, d.Target, d.Body, d.HTTP10 = x.Method, x.Target, x.Body, x.HTTP10
	d.Header = append(mesh.Header(nil), x.Header...)
	d.Path, d.Query, d.encodedSlash = x.Path, x.Query, x.encodedSlash
	return d
}

// Sub begins another request on behalf of the same client: who asks, under which settings, route and id. Method, target
// and fields are the caller's to set. Every request that this node makes of one it has got begins here.
func (x *Exchange) Sub() *Exchange {
	return &Exchange{
		Peer: x.Peer, Scheme: x.Scheme, Started: time.Now(), Host: x.Host, ID: x.ID, Client: x.Client,
		Trusted: x.Trusted, Settings: x.Settings, Route: x.Route, Params: x.Params,
	}
}

// MaxBody is the largest body that the route takes.
func (x *Exchange) MaxBody() node.Size {
	if x.Route.MaxBody != 0 {
		return x.Route.MaxBody
	}
	return x.Settings.MaxBody
}

// Timeout is how long the route lets a request take.
func (x *Exchange) Timeout() time.Duration {
	if x.Route.Timeout != 0 {
		return x.Route.Timeout.Std()
	}
	return x.Settings.Timeout.Std()
}

// BytesIn is the number of bytes of the request's body that were read.
func (x *Exchange) BytesIn() int64 { return int64(len(x.Body)) + x.streamed.Load() }

// For makes the exchange of a request that came another way than from a client's connection: from a member, or from
// another node. peer is who asks.
func For(set *Settings, peer netip.Addr, scheme, method, host string, header mesh.Header) *Exchange {
	return &Exchange{
		Method: method, Header: header, Scheme: scheme, Host: host, Peer: peer, Client: peer, Settings: set,
		Started: time.Now(),
	}
}

// Imagine makes the exchange of a request that nobody sends, to find out what would become of it. target is a path or a
// URL; a path alone needs no Host.
func Imagine(set *Settings, method, target string, header mesh.Header) *Exchange {
	x := &Exchange{Method: method, Target: target, Header: header, HTTP10: true, Scheme: "http", Started: time.Now()}
	if http1.HasPrefixFold(target, "https:") {
		x.Scheme = "https"
	}
	x.Accept(set)
	return x
}
