package node

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Route says which requests go to which target. A request matches when host, path, method and headers all match.
type Route struct {
	Name           string       `yaml:"name" doc:"Name in logs, metrics and events; derived from host, methods and path if empty."`
	Host           Host         `yaml:"host" doc:"Host that the request must name, without port; any if empty."`
	Path           Pattern      `yaml:"path" doc:"Path pattern: literal segments, as people write them or percent-encoded; {param} segments; a trailing /*." required:"true"`
	Methods        []Method     `yaml:"methods" doc:"Methods that match; any if empty. GET includes HEAD."`
	Match          Match        `yaml:"match" doc:"What else the request must have."`
	To             Target       `yaml:"to" doc:"service:NAME, upstream:NAME, nats:SUBJECT or site:NAME; or try, gather, redirect or respond in its place." required:"unless try gather redirect respond"`
	Try            []Target     `yaml:"try" doc:"Several targets, in place of to: sites, each asked for what those before it don't have, and at last a service, an upstream or a nats target that answers everything else."`
	Gather         *Gather      `yaml:"gather" doc:"Several calls at once, in place of to."`
	Redirect       *Redirect    `yaml:"redirect" doc:"Another place, in place of to."`
	Respond        *Respond     `yaml:"respond" doc:"A fixed response, in place of to."`
	Rewrite        *Rewrite     `yaml:"rewrite" doc:"What is changed in requests and responses on their way."`
	Timeout        Duration     `yaml:"timeout" doc:"Deadline of the whole request; edge.timeout if left out." zero:"leave it out for edge.timeout"`
	MaxBody        Size         `yaml:"max_body" doc:"Largest request body; edge.max_body if left out." zero:"leave it out for edge.max_body"`
	Cache          *Cache       `yaml:"cache" doc:"Caching of responses: true for what the origin allows, a duration for responses whose origin names none, or a mapping."`
	Limit          Limits       `yaml:"limit" doc:"Rate limits: 100/15m (per client address), a list of limits that must all pass, a mapping, or the name of one under limits."`
	EncodedSlash   EncodedSlash `yaml:"encoded_slash" doc:"What to do with %2F in the path: refuse it, or keep it as it is."`
	OnDisconnect   OnDisconnect `yaml:"on_disconnect" doc:"What becomes of a request whose client goes away, or ends its sending side, before the response: cancel it, or let it finish."`
	Upgrade        Protocols    `yaml:"upgrade" doc:"For upstreams: protocols beside WebSocket that a client may switch its connection to, such as spdy/3.1. Their bytes pass as they are."`
	ForwardHeaders []string     `yaml:"forward_headers" doc:"For nats targets: header fields that become NATS headers."`
}

// Match has a route's conditions besides host, path and method.
type Match struct {
	Headers map[string]string `yaml:"headers" doc:"Header fields that the request must carry with exactly these values."`
}

// Defaults sets what a configuration leaves out.
func (r *Route) Defaults() { r.EncodedSlash, r.OnDisconnect = EncodedSlashRefuse, OnDisconnectCancel }

// OnDisconnect says what happens to a request when its client disconnects.
type OnDisconnect string

// The values of OnDisconnect.
const (
	OnDisconnectCancel OnDisconnect = "cancel" // the member is told to stop
	// The member isn't told. A client that has only ended its sending side gets the response.
	OnDisconnectFinish OnDisconnect = "finish"
)

// UnmarshalText accepts the two values of OnDisconnect.
func (o *OnDisconnect) UnmarshalText(text []byte) error {
	return oneOf(o, text, OnDisconnectCancel, OnDisconnectFinish)
}

// EncodedSlash says what happens to %2F in a path.
type EncodedSlash string

// The values of EncodedSlash.
const (
	EncodedSlashRefuse EncodedSlash = "refuse" // 400
	EncodedSlashKeep   EncodedSlash = "keep"   // a character like any other, not a separator
)

// UnmarshalText accepts the two values of EncodedSlash.
func (e *EncodedSlash) UnmarshalText(text []byte) error {
	return oneOf(e, text, EncodedSlashRefuse, EncodedSlashKeep)
}

// Host is a host name in lower case, without port.
type Host string

// UnmarshalText checks the name and converts it to lower case.
func (h *Host) UnmarshalText(text []byte) error {
	s := strings.ToLower(string(text))
	if strings.Contains(s, "*") {
		return fmt.Errorf("%q has a *, which no host may yet: leave host out for any, or write a route for each", text)
	}
	if s == "" || len(s) > 253 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-._[:]") != "" ||
		strings.Contains(s, "]:") ||
		(strings.Contains(s, ":") && !strings.HasPrefix(s, "[")) {
		return fmt.Errorf("%q is not a host: write a name such as api.example.com, without scheme and port%s", text,
			asciiHint(string(text)))
	}
	*h = Host(s)
	return nil
}

// Method is an HTTP method in upper case.
type Method string

// UnmarshalText checks that the text is an upper-case token.
func (m *Method) UnmarshalText(text []byte) error {
	s := string(text)
	switch {
	case s == "*" || s == "ANY" || s == "ALL":
		return fmt.Errorf("%s is no method: leave methods out for any", s)
	case s == "" || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "":
		return fmt.Errorf("%q is not a method: write it in upper case, such as GET", text)
	case s == "CONNECT" || s == "TRACE":
		return fmt.Errorf("%s is never forwarded", s)
	}
	*m = Method(s)
	return nil
}

// Describe returns what the route does with its requests, for people.
func (r Route) Describe() string {
	switch {
	case r.Gather != nil:
		return "gather of " + strconv.Itoa(len(r.Gather.Calls))
	case r.Redirect != nil:
		return "redirect to " + r.Redirect.To.String()
	case r.Respond != nil:
		return "respond with " + strconv.Itoa(r.Respond.Status)
	case len(r.Try) > 0:
		names := make([]string, len(r.Try))
		for i, t := range r.Try {
			names[i] = t.String()
		}
		return "try " + strings.Join(names, ", ")
	}
	return r.To.String()
}

// BuffersBody reports whether the route needs the whole request body before it goes on: it isn't answered by sites, a
// service or an upstream.
func (r *Route) BuffersBody() bool {
	return r.Origin().Kind == KindNATS || r.Gather != nil || r.Redirect != nil || r.Respond != nil
}

// MatchesMethod reports whether the route matches the method. GET includes HEAD (RFC 9110 §9.3.2).
func (r Route) MatchesMethod(method string) bool {
	for _, m := range r.Methods {
		if string(m) == method || (method == "HEAD" && m == "GET") {
			return true
		}
	}
	return len(r.Methods) == 0
}

// Compare returns the relation of two routes. The host decides first (a named host is more specific than any host),
// then the path, then methods, then headers. Overlap means that neither wins for the requests that both match.
func (r Route) Compare(s Route) Relation {
	relations := [...]Relation{
		compareHosts(r.Host, s.Host), r.Path.Compare(s.Path), compareMethods(r.Methods, s.Methods),
		compareHeaders(r.Match.Headers, s.Match.Headers),
	}
	if slices.Contains(relations[:], Disjoint) {
		return Disjoint
	}
	for _, rel := range relations {
		if rel != Equal {
			return rel
		}
	}
	return Equal
}

// CompareBreadth orders routes with the same host and path from narrow to wide. It is negative where Compare returns
// Narrower. Validate ensures that of two routes that match the same request one is narrower.
func (r *Route) CompareBreadth(s *Route) int {
	return cmp.Or(cmp.Compare(breadth(r.Methods), breadth(s.Methods)),
		-cmp.Compare(len(r.Match.Headers), len(s.Match.Headers)))
}

// breadth returns how many methods the list matches. A subset of a list has fewer.
func breadth(ms []Method) int {
	if len(ms) == 0 {
		return math.MaxInt
	}
	n := 0
	for i, m := range ms {
		if !slices.Contains(ms[:i], m) {
			n++
		}
	}
	if slices.Contains(ms, "GET") && !slices.Contains(ms, "HEAD") {
		n++
	}
	return n
}

func compareHosts(a, b Host) Relation {
	switch {
	case a == b:
		return Equal
	case a == "":
		return Wider
	case b == "":
		return Narrower
	default:
		return Disjoint
	}
}

func compareMethods(a, b []Method) Relation {
	x, y := methodSet(a), methodSet(b)
	return compareSets(len(x) == 0, len(y) == 0, containsAll(x, y), containsAll(y, x),
		slices.ContainsFunc(x, func(m Method) bool {
			return slices.Contains(y, m)
		}))
}

// methodSet adds the HEAD that GET includes.
func methodSet(ms []Method) []Method {
	if slices.Contains(ms, "GET") && !slices.Contains(ms, "HEAD") {
		return append(slices.Clone(ms), "HEAD")
	}
	return ms
}

func containsAll(set, of []Method) bool {
	return !slices.ContainsFunc(of, func(m Method) bool { return !slices.Contains(set, m) })
}

// compareSets returns the relation of two sets of allowed values. An absent set (any) contains all values.
func compareSets(aAny, bAny, aHoldsB, bHoldsA, meet bool) Relation {
	switch {
	case aAny && bAny:
		return Equal
	case aAny:
		return Wider
	case bAny:
		return Narrower
	case aHoldsB && bHoldsA:
		return Equal
	case aHoldsB:
		return Wider
	case bHoldsA:
		return Narrower
	case meet:
		return Overlap
	default:
		return Disjoint
	}
}

// compareHeaders returns the relation of two lists of demands: more demands match fewer requests.
func compareHeaders(a, b map[string]string) Relation {
	common := 0
	for name, va := range a {
		for other, vb := range b {
			if !strings.EqualFold(name, other) {
				continue
			}
			if va != vb {
				return Disjoint
			}
			common++
		}
	}
	switch {
	case common == len(a) && common == len(b):
		return Equal
	case common == len(b):
		return Narrower
	case common == len(a):
		return Wider
	default:
		return Overlap
	}
}
