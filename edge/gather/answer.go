package gather

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// enough reports whether the results so far decide the answer. What stands in for a call that failed counts only when
// no other is still to come.
func (g *Gatherer) enough(results []mesh.PartResult, outs []partOut, last int) bool {
	switch g.how.Mode {
	case node.GatherRace:
		return true
	case node.GatherAny:
		return results[last].OK() && !outs[last].fellBack
	case node.GatherAll:
		return !results[last].OK()
	case node.GatherQuorum:
		own := len(partial(results, func(i int) bool { return results[i].OK() && !outs[i].fellBack }))
		return own >= g.how.Quorum || succeeded(results)+pending(results) < g.how.Quorum
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

func pending(results []mesh.PartResult) (n int) {
	for i := range results {
		if !over(&results[i]) {
			n++
		}
	}
	return n
}

// over reports whether the part ended by itself.
func over(r *mesh.PartResult) bool { return r.Err != nil || r.Response != nil }

// answer makes the response of the results.
func (g *Gatherer) answer(results []mesh.PartResult, outs []partOut, decided bool,
	held *holding,
) (*mesh.Response, error) {
	write := written.appendBody
	switch ok := succeeded(results); g.how.Mode {
	case node.GatherRace, node.GatherAny:
		return g.winner(results, outs, decided)
	case node.GatherAll:
		if ok < len(results) {
			return nil, g.failure(results, len(results), decided)
		}
	case node.GatherQuorum:
		if ok < g.how.Quorum {
			return nil, g.failure(results, g.how.Quorum, decided)
		}
	case node.GatherSettled:
		write = written.appendSettled
	}
	parts, size := make([]written, len(results)), len("{}")
	for i := range results {
		parts[i] = writing(&results[i])
		size += parts[i].size()
	}
	if err := held.take(size); err != nil {
		return nil, err
	}
	return jsonResponse(object(make([]byte, 0, size), parts, write)), nil
}

// winner gives the response of the first part that ended, or succeeded, or else what stands in for one.
func (g *Gatherer) winner(results []mesh.PartResult, outs []partOut, decided bool) (*mesh.Response, error) {
	var instead *mesh.Response
	for i := range results {
		switch r := &results[i]; {
		case r.Response == nil || (!r.OK() && g.how.Mode != node.GatherRace):
		case !outs[i].fellBack:
			return r.Response, nil
		case instead == nil:
			instead = r.Response
		}
	}
	if instead == nil {
		return nil, g.failure(results, 1, decided)
	}
	return instead, nil
}

// gatherError says that too few calls succeeded, which didn't, and how long they took.
type gatherError struct {
	cause  *node.Error
	failed []string
	timing string
}

// Fields adds to the response what the answer would have told.
func (e *gatherError) Fields(h *mesh.Header) {
	h.Add("Millrace-Partial", strings.Join(e.failed, ", "))
	h.Add("Server-Timing", e.timing)
}

func (e *gatherError) Error() string { return e.cause.Error() }
func (e *gatherError) Unwrap() error { return e.cause }

// failure says which parts failed, or, if time is what was missing, which didn't succeed. Others were given up because
// of those that failed.
func (g *Gatherer) failure(results []mesh.PartResult, wanted int, decided bool) error {
	code, failed := node.CodeUpstream, partial(results, func(i int) bool {
		return over(&results[i]) && !results[i].OK()
	})
	late := slices.ContainsFunc(results, func(r mesh.PartResult) bool { return node.CodeOf(r.Err) == node.CodeTimeout })
	if late || (!decided && succeeded(results)+pending(results) >= wanted) {
		code, failed = node.CodeTimeout, partial(results, func(i int) bool { return !results[i].OK() })
	}
	text := fmt.Sprintf("%d of %d calls succeeded, and %d must; failed: %s", succeeded(results), len(results), wanted,
		strings.Join(failed, ", "))
	return &gatherError{node.Errorf(code, nil, "%s", text), failed, timing(results)}
}

// partial names the parts that meet a condition.
func partial(results []mesh.PartResult, meets func(i int) bool) (names []string) {
	for i := range results {
		if meets(i) {
			names = append(names, results[i].Name)
		}
	}
	return names
}

// tellCaches says how an answer that is made of all parts may be cached: as the one of them that may be least.
func (g *Gatherer) tellCaches(x *exchange.Exchange, resp *mesh.Response, results []mesh.PartResult) {
	if g.how.Mode.Single() {
		return // it has its own fields
	}
	var parts []node.Header
	for i := range results {
		if r := &results[i]; r.Response != nil {
			parts = append(parts, r.Response.Header)
		}
	}
	c := g.cfg.Cache(x)
	fields := httpcache.Compose(parts, time.Now(), c.TTL, c.Personal)
	if !c.On || g.rewrites("Cache-Control") {
		fields.Del(node.TargetedField)
	}
	resp.Header = append(resp.Header, fields...)
}

// rewrites reports whether the route changes a field of responses.
func (g *Gatherer) rewrites(name string) bool {
	return g.rewrite != nil && g.rewrite.Response.Names(name)
}

// tell adds which parts are missing or stood in for, and how long each took. Such an answer isn't kept by anybody.
func (g *Gatherer) tell(x *exchange.Exchange, resp *mesh.Response, results []mesh.PartResult, outs []partOut) {
	missing := partial(results, func(i int) bool {
		if g.how.Mode.Single() { // losers aren't missing
			return results[i].Response == resp && outs[i].fellBack
		}
		return !results[i].OK() || outs[i].fellBack
	})
	if len(missing) > 0 {
		resp.Header.Add("Millrace-Partial", strings.Join(missing, ", "))
		resp.Header.Set("Cache-Control", "no-store")
		resp.Header.Del(node.TargetedField)
		x.Outcome.Incomplete = true
	}
	resp.Header.Add("Server-Timing", timing(results))
}

// timing tells how long each part took that ended by itself (https://www.w3.org/TR/server-timing).
func timing(results []mesh.PartResult) string {
	var took []string
	for i := range results {
		if r := &results[i]; over(r) {
			took = append(took, r.Name+";dur="+strconv.FormatFloat(float64(r.Took.Microseconds())/1000, 'f', 1, 64))
		}
	}
	return strings.Join(took, ", ")
}

// written is a part on its way into the whole.
type written struct {
	*mesh.PartResult

	embeds bool // its body can stand in JSON as it is
}

// writing looks at a body. What is nested very deeply doesn't embed: many readers would fail on it, some by ending
// their process.
func writing(r *mesh.PartResult) written {
	w := written{PartResult: r}
	if resp := r.Response; resp != nil {
		w.embeds = isJSON(resp.Header.Get("Content-Type")) && json.Valid(resp.Body) && utf8.Valid(resp.Body)
	}
	return w
}

// size is about how many bytes the part takes in the whole, and not less than its body does.
func (w written) size() int {
	size := len(w.Name) + 128
	switch {
	case w.Response == nil:
		return size
	case w.embeds:
		return size + len(w.Response.Body)
	}
	for _, c := range w.Response.Body {
		switch {
		case c < ' ' || c == '<' || c == '>' || c == '&' || c >= 0x7f:
			size += 6
		case c == '"' || c == '\\':
			size += 2
		default:
			size++
		}
	}
	return size
}

// object writes a JSON object with a member for each part; value gives nil for a part that has none.
func object(b []byte, parts []written, value func(w written, b []byte) []byte) []byte {
	b = append(b, '{')
	for _, w := range parts {
		before := len(b)
		if before > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), w.Name...), `":`...)
		if with := value(w, b); with != nil {
			b = with
		} else {
			b = b[:before]
		}
	}
	return append(b, '}')
}

// appendSettled writes status and body of a part, or its error.
func (w written) appendSettled(b []byte) []byte {
	switch {
	case w.Response != nil && w.Err == nil:
		b = append(strconv.AppendInt(append(b, `{"status":`...), int64(w.Response.Status), 10), `,"body":`...)
		return append(w.body(b), '}')
	case w.Err == nil:
		return append(b, `{"status":504,"error":{"code":"timeout","detail":"no answer within the deadline"}}`...)
	}
	code, text := node.CodeOf(w.Err), "the call failed"
	if e, ok := errors.AsType[*node.Error](w.Err); ok {
		text = e.Text
	}
	return fmt.Appendf(b, `{"status":%d,"error":{"code":%q,"detail":%s}}`, exchange.StatusOf(code), code,
		quoteJSON(text))
}

// appendBody writes the body of a part that succeeded.
func (w written) appendBody(b []byte) []byte {
	if !w.OK() {
		return nil
	}
	return w.body(b)
}

// body writes a part's body: as it is, if it is JSON, or else as a text.
func (w written) body(b []byte) []byte {
	switch body := w.Response.Body; {
	case len(body) == 0:
		return append(b, "null"...)
	case w.embeds:
		return append(b, body...)
	default:
		return gjson.AppendJSONString(b, strings.ToValidUTF8(string(body), "\uFFFD"))
	}
}

// isJSON reports whether a media type is one of JSON (RFC 6839 §3.1).
func isJSON(contentType string) bool {
	kind := http1.MediaType(contentType)
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

func quoteJSON(s string) []byte { return gjson.AppendJSONString(nil, strings.ToValidUTF8(s, "\uFFFD")) }

func jsonResponse(body []byte) *mesh.Response {
	return &mesh.Response{
		Status: http.StatusOK, Header: mesh.Header{{Name: "Content-Type", Value: "application/json"}},
		Body: body,
	}
}
