package edge

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// Exchange is one HTTP request on its way through the policies. A front fills the first part; nobody else holds it, so
// policies may change it without locks. Its strings stay valid for as long as anybody keeps them.
type Exchange struct {
	Method   string
	Target   string      // request target as received: origin-form, or absolute-form
	Header   mesh.Header // all fields as received, Host included
	Body     []byte      // whole, once takeBody has run, unless it streams
	Length   int64       // of the body that Incoming has, or -1
	Peer     netip.Addr  // who is connected
	Scheme   string      // http or https: as this node sees it, then as a trusted proxy tells it
	HTTP10   bool        // HTTP/1.0 requests may come without Host
	Started  time.Time
	Hasty    bool                            // the client was refused for overload and asked again at once
	Incoming Incoming                        // the body that hasn't been read yet; nil if Body is all there is
	Socket   bool                            // a WebSocket (RFC 6455 §4.2.1) is asked for, or a protocol of the route
	Upgrade  string                          // the protocols that the client offers to switch to, as a list
	Interim  func(status int, h mesh.Header) // sends an interim response to the client; nil if it can't have any

	// Set by the server before the policies run.
	Host  string
	Path  string // canonical
	Query string // as received, with its question mark; empty if there is none

	// Set by policies.
	ID     string     // request id
	Client netip.Addr // who asks, behind trusted proxies

	settings   *settings
	trusted    bool   // Peer is a trusted proxy
	via        string // this node's name in Via
	route      *route
	params     []string        // values of the route's parameters, in the pattern's order
	slash      bool            // the path holds an encoded slash
	listed     map[string]bool // fields, in lower case, that Connection lists
	refusedBy  *route          // the route whose rules hold for the refusal, if it isn't route
	refusal    error           // why no route answers
	last       bool            // the connection ends with this request
	pause      bool            // refused for overload: the connection's next request shall wait
	allow      string          // methods that the path takes, with a refusal for the method
	streamed   atomic.Int64    // bytes of the body that were read as a stream
	server     *Server         // whose places among the requests in flight count
	messages   *messages       // reads a socket whose target knows messages only
	protocol   string          // that a socket which is no WebSocket is switched to
	forward    mesh.Request
	incomplete bool   // the response lacks parts, so nobody keeps it
	asked      string // target that is asked for in place of Path and Query; empty unless the route rewrites

	// Of the limits.
	passed     []pass // what they gave
	passedRoom [1]pass
	beyond     string // name of the limit that has refused it

	// Of the cache.
	cache       *cacheRoom       // made when something is looked for
	kept        *kept            // the response comes from the store and is written by sendKept
	cacheStatus httpcache.Status // what the cache did
	waited      int              // fetches of others that it waited for
	home        bool             // another node asks: no third one is asked
	refreshing  time.Time        // when the response was received that a newer one is wanted for
}

// cacheRoom is what the cache needs for one exchange. Most of an exchange would be this, and those of routes that don't
// cache do without.
type cacheRoom struct {
	found    found         // what the store has
	fields   [4]mesh.Field // for the few fields that a kept response gets
	response mesh.Response // for a kept response
	kept     kept
	id       [32]byte
}

// room gives the exchange's cacheRoom.
func (x *Exchange) room() *cacheRoom {
	if x.cache == nil {
		x.cache = &cacheRoom{}
	}
	return x.cache
}

// Incoming is a body that is still on its way. Errors are *node.Error.
type Incoming interface {
	// ReadBody reads all of it, if it has at most limit bytes.
	ReadBody(limit int64) ([]byte, error)
	// Stream gives it in pieces, if it has at most limit bytes. ReadBody still works if the stream is closed unread.
	Stream(limit int64) mesh.Body
	// Raw gives what follows the request until the client ends the connection.
	Raw() mesh.Body
	// Arrived reports whether all of it is here, and has no trailer fields.
	Arrived() bool
	// Watch looks for the client's end while nothing is read.
	Watch()
}

// Handler answers an exchange. An error is a *node.Error, or counts as internal.
type Handler func(ctx context.Context, x *Exchange) (*mesh.Response, error)

// Policy wraps a handler with one rule. See chain.go for their order.
type Policy func(next Handler) Handler

// param gives the value of a path parameter of the route.
func (x *Exchange) param(name string) string {
	for i, n := range x.route.paramNames {
		if n == name {
			return x.params[i]
		}
	}
	return ""
}

// enter puts the exchange under the settings of this moment and checks its form, unless the front has refused it
// already.
func (x *Exchange) enter(set *settings, via string) {
	x.settings, x.via, x.trusted = set, via, set.trusts(x.Peer)
	if x.refusal == nil {
		x.refusal = x.accept()
	}
}

// accept checks what the request asks for and fills Host, Path and Query. Framing and syntax are the front's business.
// What is refused here is the last request of its connection: who writes it so may mean its next bytes as something
// else.
func (x *Exchange) accept() error {
	x.last = true
	if !mesh.ValidMethod(x.Method) || x.Method == http.MethodConnect || x.Method == http.MethodTrace {
		x.allow = servedMethods
		return node.Errorf(node.CodeMethod, nil, "the method is not served here")
	}
	if err := x.acceptTarget(); err != nil {
		return node.Errorf(node.CodeInvalid, err, "the request target is malformed: %s", err)
	}
	if err := x.acceptFields(); err != nil {
		return err
	}
	x.last = false
	return nil
}

// servedMethods is what Allow says where no route has its say.
const servedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// acceptFields drops fields that belong to the client's connection, those that only nodes may write, and those that
// count from trusted proxies only, so that nothing behind it (routes, keys, limits, the origin) sees them. It refuses
// what goes in a circle.
func (x *Exchange) acceptFields() error {
	hop, foreign := false, false
	for i := range x.Header {
		f := &x.Header[i]
		switch {
		case !matters(f.Name):
		case equalFold(f.Name, "Via"):
			if strings.Contains(f.Value, x.via) {
				return node.Errorf(node.CodeLoop, nil,
					"the request has passed this node before: a target points back at it")
			}
		case node.Hop(f.Name):
			hop = true
		case x.foreign(f.Name):
			foreign = true
		}
	}
	if hop {
		x.listed = x.Header.DropHopByHop()
	}
	if foreign {
		x.Header.Delete(func(f mesh.Field) bool { return x.foreign(f.Name) })
	}
	x.Socket = x.Socket && x.Header.Has("Sec-WebSocket-Key")
	return nil
}

func (x *Exchange) acceptTarget() error {
	if x.Target == "*" && x.Method == http.MethodOptions { // RFC 9112 §3.2.4: the node as a whole
		x.Path = "*"
		return x.setAuthority("")
	}
	authority, path, query, err := splitTarget(x.Target)
	if err != nil {
		return err
	}
	if err := x.setAuthority(authority); err != nil {
		return err
	}
	x.Path, x.slash, err = node.CanonicalPath(path)
	x.Query = query
	return err
}
