package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	conn  *mesh.Conn
	how   *node.Gather
	names []string // in the order of the response
	to    []mesh.Destination
}

// gather makes the end of the chain of a route that gathers.
func gather(conn *mesh.Conn, how *node.Gather) Handler { return newGatherer(conn, how).handle }

func newGatherer(conn *mesh.Conn, how *node.Gather) *gatherer {
	g := &gatherer{conn: conn, how: how, names: slices.Sorted(maps.Keys(how.Calls))}
	for _, name := range g.names {
		to := how.Calls[name].To
		if to.Kind == node.KindUpstream {
			g.to = append(g.to, conn.Upstream(to.Name))
		} else {
			g.to = append(g.to, conn.Service(to.Name))
		}
	}
	return g
}

// subjects lists where the calls go, each once.
func (g *gatherer) subjects() []string {
	var out []string
	for _, to := range g.to {
		out = append(out, to.Subject())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (g *gatherer) handle(ctx context.Context, x *Exchange) (*mesh.Response, error) {
	whole := x.prepare()
	header := slices.Clone(whole.Header)
	header.Delete(func(f mesh.Field) bool { return ofWhole(f.Name) })
	ctx, cancel := context.WithDeadline(ctx, whole.Deadline)
	defer cancel()
	outs := make([]partOut, len(g.names))
	parts := make([]mesh.Part, len(g.names))
	for i, name := range g.names {
		c := g.how.Calls[name]
		p := &part{g: g, call: &c, to: g.to[i], x: x, header: header, whole: whole, out: &outs[i]}
		parts[i] = mesh.Part{Name: name, After: c.After, Do: p.do}
	}
	results := mesh.Gather(ctx, mesh.Gathering{Concurrency: g.how.Concurrency, Enough: g.enough}, parts)
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, errGone
	}
	late := make([]bool, len(results))
	if ctx.Err() != nil { // else the others weren't wanted any more
		late = g.fillIn(results)
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

// fillIn takes what stands in for parts that weren't over in time, and tells which ones that are.
func (g *gatherer) fillIn(results []mesh.PartResult) []bool {
	late := make([]bool, len(results))
	for i := range results {
		r, instead := &results[i], g.how.Calls[results[i].Name].Fallback
		if late[i] = r.Err == nil && r.Response == nil && instead != ""; late[i] {
			r.Response = jsonResponse([]byte(instead))
		}
	}
	return late
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
	g      *gatherer
	call   *node.Call
	to     mesh.Destination
	x      *Exchange
	header mesh.Header
	whole  *mesh.Request
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
	target, err := p.call.Path.Expand(func(ref node.Ref) (string, error) { return p.value(ref, earlier) })
	if err != nil {
		if errors.Is(err, node.ErrTemplateValue) {
			return nil, node.Errorf(node.CodeInvalid, err, "a value can't be put into the call's path")
		}
		return nil, err //nolint:wrapcheck // value's own
	}
	deadline := p.whole.Deadline
	if at := time.Now().Add(p.call.Timeout.Std()); p.call.Timeout > 0 && at.Before(deadline) {
		deadline = at
	}
	resp, err := p.g.conn.Do(ctx, p.to, &mesh.Request{
		Method: string(p.call.Method), Target: target, Host: p.whole.Host, Header: p.header, Route: p.whole.Route, Deadline: deadline,
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // a *node.Error already
	}
	return resp, collect(ctx, resp)
}

// collect reads a streamed body whole.
func collect(ctx context.Context, resp *mesh.Response) error {
	if resp.Stream == nil {
		return nil
	}
	end := func() { _ = resp.Stream.Close() } // it was read, or is given up
	defer end()
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

// value gives what a reference stands for.
func (p *part) value(ref node.Ref, earlier func(string) *mesh.Response) (string, error) {
	if ref.Call == "" {
		return p.x.place(ref)
	}
	var found gjson.Result
	if resp := earlier(ref.Call); resp != nil {
		found = gjson.GetBytes(resp.Body, ref.Field)
	}
	switch found.Type {
	case gjson.String, gjson.Number, gjson.True, gjson.False:
		return found.String(), nil
	case gjson.Null, gjson.JSON:
	}
	return "", node.Errorf(node.CodeUpstream, nil, "the result has no text or number %s", ref)
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
