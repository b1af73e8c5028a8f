package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"millrace/mesh"
	"millrace/node"
)

// maxPart bounds the body of one part, since a gather holds all of them in memory.
const maxPart = 8 << 20

// gatherer makes the calls of a route with gather.
type gatherer struct {
	how   *node.Gather
	names []string // in the order of the response
	parts []*route // by name's index: each call is made as the request of a route of its own
}

// gather makes the end of the chain of a route that gathers.
func (s *Server) gather(r *node.Route) *gatherer {
	return s.newGatherer(r, func(call string) string { return r.ID() + "." + call })
}

// newGatherer makes the parts; id says under which name the calls are counted.
func (s *Server) newGatherer(r *node.Route, id func(call string) string) *gatherer {
	g := &gatherer{how: r.Gather, names: slices.Sorted(maps.Keys(r.Gather.Calls))}
	for _, name := range g.names {
		g.parts = append(g.parts, s.partRoute(r, name, id(name)))
	}
	return g
}

// partRoute is the route of one call: its target, behind the call's own limits and cache.
func (s *Server) partRoute(parent *node.Route, name, id string) *route {
	c := parent.Gather.Calls[name]
	own := node.Route{Host: parent.Host, Path: parent.Path, To: c.To, Timeout: c.Timeout, Cache: c.Cache, Limit: c.Limit}
	if parent.Rewrite != nil {
		own.Rewrite = &node.Rewrite{Request: parent.Rewrite.Request}
	}
	r := &route{Route: own, id: id, paramNames: own.Path.Params(), stats: s.callStats.of(id)}
	r.handler = targetHandler(s.mesh, own)
	if own.Cache != nil && own.Cache.On && s.cfg.Cache != nil {
		if r.Timeout == 0 {
			r.Timeout = parent.Timeout
		}
		r.cached = s.newCached(r, deadline(r.handler)) // a fetch may outlive the request that began it
		r.cached.asPart(c.To.String())
		r.handler = r.cached.handle
	}
	if len(own.Limit) > 0 && s.cfg.Limits != nil {
		r.limited = s.newLimited(r, r.handler)
		r.handler = r.limited.handle
	}
	return r
}

func (g *gatherer) handle(ctx context.Context, x *Exchange) (*mesh.Response, error) {
	ctx, cancel := context.WithDeadline(ctx, x.forward.Deadline)
	defer cancel()
	header := partHeader(x)
	outs := make([]partOut, len(g.names))
	parts := make([]mesh.Part, len(g.names))
	for i, name := range g.names {
		c := g.how.Calls[name]
		p := &part{call: &c, route: g.parts[i], x: x, header: header, out: &outs[i]}
		parts[i] = mesh.Part{Name: name, After: c.After, Do: p.do}
	}
	results := mesh.Gather(ctx, mesh.Gathering{Concurrency: g.how.Concurrency, Enough: g.enough}, parts)
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, errGone
	}
	late := make([]bool, len(results))
	if ctx.Err() != nil { // else the others weren't wanted any more
		late = g.standIn(results)
	}
	resp, err := g.answer(results)
	if err != nil {
		return nil, err
	}
	g.tell(resp, results, func(i int) bool {
		return late[i] || (results[i].Err == nil && results[i].Response != nil && outs[i].fellBack)
	})
	return resp, nil
}

// Gather makes the calls of a route with gather for a member: host and header are what the calls carry. The limits and caches of calls count as those of
// requests do; the client is this node.
func (s *Server) Gather(ctx context.Context, r *node.Route, host string, header mesh.Header) (*mesh.Response, error) {
	x := &Exchange{
		Method: "GET", Header: header, Scheme: "http", Started: time.Now(), Host: host, Path: "/", ID: newID(), settings: s.settings.Load(), via: s.via, server: s,
		route: &route{Route: *r, id: r.ID()}, Peer: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	}
	x.Client = x.Peer
	if x.Host == "" {
		x.Host = "localhost"
	}
	if !validHost(x.Host) {
		return nil, node.Errorf(node.CodeInvalid, errHost, "the host is malformed")
	}
	x.forward.Deadline = x.Started.Add(x.timeout())
	return s.newGatherer(r, func(string) string { return r.ID() }).handle(ctx, x) // members choose the names of calls, so those aren't counted one by one
}

// standIn takes what stands in for parts that weren't over in time, and tells which ones that are.
func (g *gatherer) standIn(results []mesh.PartResult) []bool {
	late := make([]bool, len(results))
	for i := range results {
		r, instead := &results[i], g.how.Calls[results[i].Name].Fallback
		if late[i] = r.Err == nil && r.Response == nil && instead != ""; late[i] {
			r.Response = jsonResponse([]byte(instead))
		}
	}
	return late
}

// partHeader is the client's fields that calls carry, too.
func partHeader(x *Exchange) mesh.Header {
	h := slices.Clone(x.Header)
	h.DropHopByHop()
	h.Delete(func(f mesh.Field) bool { return ofWhole(f.Name) })
	return h
}

// ofWhole names the fields of the client's request that are about the response as a whole, or about a body, which calls don't have.
func ofWhole(name string) bool {
	return hasPrefixFold(name, "If-") || hasPrefixFold(name, "Content-") || equalFold(name, "Range") || equalFold(name, "Accept-Encoding") || equalFold(name, "Expect")
}

// enough tells whether the results so far decide the answer.
func (g *gatherer) enough(results []mesh.PartResult, last int) bool {
	switch g.how.Mode {
	case node.GatherRace:
		return true
	case node.GatherAny:
		return results[last].OK()
	case node.GatherAll:
		return !results[last].OK()
	case node.GatherQuorum:
		return succeeded(results) >= g.how.Quorum
	case node.GatherSettled:
	}
	return false
}

func succeeded(results []mesh.PartResult) (n int) {
	for i := range results {
		if results[i].OK() {
			n++
		}
	}
	return n
}

// answer makes the response of the results.
func (g *gatherer) answer(results []mesh.PartResult) (*mesh.Response, error) {
	switch ok := succeeded(results); g.how.Mode {
	case node.GatherRace, node.GatherAny:
		return g.winner(results)
	case node.GatherAll:
		if ok < len(results) {
			return nil, g.failure(results, len(results))
		}
	case node.GatherQuorum:
		if ok < g.how.Quorum {
			return nil, g.failure(results, g.how.Quorum)
		}
	case node.GatherSettled:
		return jsonResponse(object(results, appendSettled)), nil
	}
	return jsonResponse(object(results, func(b []byte, r *mesh.PartResult) []byte {
		if !r.OK() {
			return nil
		}
		return appendBody(b, r.Response)
	})), nil
}

// winner gives the response of the first part that ended, or succeeded.
func (g *gatherer) winner(results []mesh.PartResult) (*mesh.Response, error) {
	for i := range results {
		r := &results[i]
		if r.Response != nil && (r.OK() || g.how.Mode == node.GatherRace) {
			return r.Response, nil
		}
	}
	return nil, g.failure(results, 1)
}

// failure says which parts didn't succeed.
func (g *gatherer) failure(results []mesh.PartResult, wanted int) error {
	code, late := node.CodeUpstream, false
	for i := range results {
		late = late || node.CodeOf(results[i].Err) == node.CodeTimeout
	}
	if late || succeeded(results)+pending(results) >= wanted { // time is what was missing
		code = node.CodeTimeout
	}
	return node.Errorf(code, nil, "%d of %d calls succeeded, %d are needed; not: %s", succeeded(results), len(results), wanted, strings.Join(notOK(results), ", "))
}

func pending(results []mesh.PartResult) (n int) {
	for i := range results {
		if results[i].Err == nil && results[i].Response == nil {
			n++
		}
	}
	return n
}

func notOK(results []mesh.PartResult) (names []string) {
	for i := range results {
		if !results[i].OK() {
			names = append(names, results[i].Name)
		}
	}
	return names
}

// tell adds which parts are missing or stood in for, and how long each took.
func (g *gatherer) tell(resp *mesh.Response, results []mesh.PartResult, fellBack func(i int) bool) {
	single := g.how.Mode == node.GatherRace || g.how.Mode == node.GatherAny
	var partial, timing []string
	for i := range results {
		r := &results[i]
		over := r.Err != nil || r.Response != nil
		if !single && (!r.OK() || fellBack(i)) {
			partial = append(partial, r.Name)
		}
		if over {
			timing = append(timing, r.Name+";dur="+strconv.FormatFloat(float64(r.Took.Microseconds())/1000, 'f', 1, 64))
		}
	}
	if len(partial) > 0 {
		resp.Header.Add("Millrace-Partial", strings.Join(partial, ", "))
		resp.Header.Set("Cache-Control", "no-store")
	}
	resp.Header.Add("Server-Timing", strings.Join(timing, ", "))
}

// partOut is what a part tells beside its result. It is read only when the part is over.
type partOut struct{ fellBack bool }

// part is one call of one request.
type part struct {
	call   *node.Call
	route  *route
	x      *Exchange // the client's
	header mesh.Header
	out    *partOut
}

// do makes the call, or takes what stands in for it.
func (p *part) do(ctx context.Context, earlier func(string) *mesh.Response) (*mesh.Response, error) {
	resp, err := p.ask(ctx, earlier)
	if (err != nil || resp.Status >= 400) && p.call.Fallback != "" && ctx.Err() == nil {
		p.out.fellBack = true
		return jsonResponse([]byte(p.call.Fallback)), nil
	}
	if err == nil && resp.Status < 400 && p.call.Extract != "" {
		found := gjson.GetBytes(resp.Body, p.call.Extract)
		if !found.Exists() {
			return jsonResponse([]byte("null")), nil
		}
		return jsonResponse([]byte(found.Raw)), nil
	}
	return resp, err
}

func (p *part) ask(ctx context.Context, earlier func(string) *mesh.Response) (*mesh.Response, error) {
	target, body, err := p.fillIn(earlier)
	if err != nil {
		return nil, err
	}
	own := p.exchange(target, body)
	resp, err := p.route.handler(ctx, own)
	if err != nil {
		p.route.stats.record(statusOf(node.CodeOf(err)), time.Since(own.Started))
		return nil, err
	}
	p.route.stats.record(resp.Status, time.Since(own.Started))
	defer own.unkeep(resp)
	return resp, collect(ctx, resp)
}

// fillIn puts values into what the call asks for and sends. The target of a plain NATS call is its subject, as a path.
func (p *part) fillIn(earlier func(string) *mesh.Response) (target string, body []byte, err error) {
	if p.call.To.Kind == node.KindNATS {
		subject, err := p.call.To.Subject.Expand(p.x.param)
		if err != nil {
			return "", nil, node.Errorf(node.CodeInvalid, err, "a value can't be put into the call's subject")
		}
		target = "/" + subject
	} else if target, err = p.call.Path.Expand(func(ref node.Ref) (string, error) { return p.value(ref, earlier) }); err != nil {
		return "", nil, badValue(err, "path")
	}
	if body, err = p.call.Body.Expand(func(ref node.Ref) (node.JSON, error) { return p.json(ref, earlier) }); err != nil {
		return "", nil, badValue(err, "body")
	}
	return target, body, nil
}

// badValue tells of a value that has no place in the call, or passes on what says that there is none.
func badValue(err error, where string) error {
	if errors.Is(err, node.ErrTemplateValue) || errors.Is(err, node.ErrBodyValue) {
		return node.Errorf(node.CodeInvalid, err, "a value can't be put into the call's %s", where)
	}
	return err
}

// unkeep takes a response out of the store's memory, if it lies there.
func (x *Exchange) unkeep(resp *mesh.Response) {
	if x.kept == nil {
		return
	}
	h, _, err := mesh.ParseFields(append(slices.Clone(x.kept.head), "\r\n"...))
	if err == nil { // they were checked before they were stored
		resp.Header = append(h, resp.Header...)
	}
	resp.Body = slices.Clone(resp.Body)
	x.kept.view.Release()
	x.kept = nil
}

// exchange makes the call's own request.
func (p *part) exchange(target string, body []byte) *Exchange {
	x := p.x
	own := &Exchange{
		Method: string(p.call.Method), Target: target, Header: slices.Clone(p.header), Peer: x.Peer, Scheme: x.Scheme, Started: time.Now(),
		Host: x.Host, ID: x.ID, Client: x.Client, settings: x.settings, via: x.via, trusted: x.trusted, route: p.route, params: x.params, server: x.server,
	}
	if len(body) > 0 {
		own.Body = body
		own.Header.Set("Content-Type", "application/json")
	}
	own.Path, own.Query, _ = strings.Cut(target, "?")
	if own.Query != "" {
		own.Query = "?" + own.Query
	}
	own.forward.Deadline = x.forward.Deadline
	if at := own.Started.Add(p.call.Timeout.Std()); p.call.Timeout > 0 && at.Before(own.forward.Deadline) {
		own.forward.Deadline = at
	}
	return own
}

// collect reads a streamed body whole.
func collect(ctx context.Context, resp *mesh.Response) error {
	if resp.Stream == nil {
		return nil
	}
	end := func() { _ = resp.Stream.Close() } // it was read, or is given up
	defer end()
	if mediaType(resp.Header.Get("Content-Type")) == "text/event-stream" {
		return node.Errorf(node.CodeBadReply, nil, "the call answers with an event stream, which never ends: make it a route of its own")
	}
	defer context.AfterFunc(ctx, end)()
	body, err := io.ReadAll(io.LimitReader(mesh.NewReader(resp.Stream), maxPart+1))
	switch {
	case err != nil:
		return node.Errorf(node.CodeUpstream, err, "the response of the call broke off")
	case len(body) > maxPart:
		return node.Errorf(node.CodeBadReply, nil, "the response of the call is longer than %s", node.Size(maxPart))
	}
	resp.Body, resp.Stream = body, nil
	return nil
}

// value gives the text that a reference stands for.
func (p *part) value(ref node.Ref, earlier func(string) *mesh.Response) (string, error) {
	if ref.Call == "" {
		return p.x.place(ref)
	}
	if resp := earlier(ref.Call); resp != nil {
		if text, ok := ref.TextIn(resp.Body); ok {
			return text, nil
		}
	}
	return "", node.Errorf(node.CodeUpstream, nil, "the result has no text or number %s", ref)
}

// json gives the JSON that a reference stands for. What the route's /* matched is unescaped, as other parameters are.
func (p *part) json(ref node.Ref, earlier func(string) *mesh.Response) (node.JSON, error) {
	if ref.Call == "" {
		text, err := p.x.place(ref)
		if err == nil && ref.Param == node.Rest {
			if text, err = url.PathUnescape(text); err != nil {
				return "", node.ErrBodyValue
			}
		}
		return node.JSON(quoteJSON(text)), err
	}
	if resp := earlier(ref.Call); resp != nil {
		if value, ok := ref.JSONIn(resp.Body); ok {
			return value, nil
		}
	}
	return "", node.Errorf(node.CodeUpstream, nil, "the result has no %s", ref)
}

// object writes a JSON object with a member for each part; value gives nil for a part that has none.
func object(results []mesh.PartResult, value func(b []byte, r *mesh.PartResult) []byte) []byte {
	b := []byte{'{'}
	for i := range results {
		before := len(b)
		if before > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), results[i].Name...), `":`...)
		if with := value(b, &results[i]); with != nil {
			b = with
		} else {
			b = b[:before]
		}
	}
	return append(b, '}')
}

// appendSettled writes status and body of a part, or its error.
func appendSettled(b []byte, r *mesh.PartResult) []byte {
	switch {
	case r.Response != nil && r.Err == nil:
		b = append(strconv.AppendInt(append(b, `{"status":`...), int64(r.Response.Status), 10), `,"body":`...)
		return append(appendBody(b, r.Response), '}')
	case r.Err == nil:
		return append(b, `{"status":504,"error":{"code":"timeout","detail":"no answer within the deadline"}}`...)
	}
	code, text := node.CodeOf(r.Err), "the call failed"
	if e, ok := errors.AsType[*node.Error](r.Err); ok {
		text = e.Text
	}
	return fmt.Appendf(b, `{"status":%d,"error":{"code":%q,"detail":%s}}`, statusOf(code), code, quoteJSON(text))
}

// appendBody writes a part's body: as it is, if it is JSON, or else as a text.
func appendBody(b []byte, resp *mesh.Response) []byte {
	if len(resp.Body) == 0 {
		return append(b, "null"...)
	}
	if isJSON(resp.Header.Get("Content-Type")) && gjson.ValidBytes(resp.Body) {
		return append(b, resp.Body...)
	}
	return append(b, quoteJSON(string(resp.Body))...)
}

// isJSON tells whether a media type is one of JSON (RFC 6839 §3.1).
func isJSON(contentType string) bool {
	kind := mediaType(contentType)
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

func quoteJSON(s string) []byte { return gjson.AppendJSONString(nil, strings.ToValidUTF8(s, "\uFFFD")) }

func jsonResponse(body []byte) *mesh.Response {
	return &mesh.Response{Status: 200, Header: mesh.Header{{Name: "Content-Type", Value: "application/json"}}, Body: body}
}
