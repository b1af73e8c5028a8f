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

// enough reports whether the results so far decide the answer. A fallback counts only when no other result can come.
func (g *Gatherer) enough(results []mesh.PartResult, outcomes []partOutcome, last int) bool {
	switch g.spec.Mode {
	case node.GatherRace:
		return true
	case node.GatherAny:
		return results[last].OK() && !outcomes[last].fellBack
	case node.GatherAll:
		return !results[last].OK()
	case node.GatherQuorum:
		own := len(namesOf(results, func(i int) bool { return results[i].OK() && !outcomes[i].fellBack }))
		return own >= g.spec.Quorum || succeeded(results)+pending(results) < g.spec.Quorum
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
		if !ended(&results[i]) {
			n++
		}
	}
	return n
}

// ended reports whether the part ended by itself, and not because the gather did.
func ended(r *mesh.PartResult) bool { return r.Err != nil || r.Response != nil }

// answer composes the response from the results. decided is the last result of enough.
func (g *Gatherer) answer(results []mesh.PartResult, outcomes []partOutcome, decided bool,
	held *heldBytes,
) (*mesh.Response, error) {
	write := jsonPart.appendBody
	switch ok := succeeded(results); g.spec.Mode {
	case node.GatherRace, node.GatherAny:
		return g.winner(results, outcomes, decided)
	case node.GatherAll:
		if ok < len(results) {
			return nil, g.failure(results, len(results), decided)
		}
	case node.GatherQuorum:
		if ok < g.spec.Quorum {
			return nil, g.failure(results, g.spec.Quorum, decided)
		}
	case node.GatherSettled:
		write = jsonPart.appendSettled
	}
	parts, size := make([]jsonPart, len(results)), len("{}")
	for i := range results {
		parts[i] = newJSONPart(&results[i])
		size += parts[i].size()
	}
	if err := held.take(size); err != nil {
		return nil, err
	}
	return jsonResponse(object(make([]byte, 0, size), parts, write)), nil
}

// winner returns the response of the first part that ended (race) or succeeded (any), or else a fallback.
func (g *Gatherer) winner(results []mesh.PartResult, outcomes []partOutcome, decided bool) (*mesh.Response, error) {
	var fallback *mesh.Response
	for i := range results {
		switch r := &results[i]; {
		case r.Response == nil || (!r.OK() && g.spec.Mode != node.GatherRace):
		case !outcomes[i].fellBack:
			return r.Response, nil
		case fallback == nil:
			fallback = r.Response
		}
	}
	if fallback == nil {
		return nil, g.failure(results, 1, decided)
	}
	return fallback, nil
}

// gatherError says that too few calls succeeded, which didn't, and how long they took.
type gatherError struct {
	cause  *node.Error
	failed []string
	timing string
}

// Fields adds the fields that an answer would have: see addReport.
func (e *gatherError) Fields(h *mesh.Header) {
	h.Add("Millrace-Partial", strings.Join(e.failed, ", "))
	h.Add("Server-Timing", e.timing)
}

func (e *gatherError) Error() string { return e.cause.Error() }
func (e *gatherError) Unwrap() error { return e.cause }

// failure returns the error for too few successes. It names the parts that failed: others were canceled because of
// them. After a timeout it names all parts that didn't succeed.
func (g *Gatherer) failure(results []mesh.PartResult, wanted int, decided bool) error {
	code, failed := node.CodeUpstream, namesOf(results, func(i int) bool {
		return ended(&results[i]) && !results[i].OK()
	})
	late := slices.ContainsFunc(results, func(r mesh.PartResult) bool { return node.CodeOf(r.Err) == node.CodeTimeout })
	if late || (!decided && succeeded(results)+pending(results) >= wanted) {
		code, failed = node.CodeTimeout, namesOf(results, func(i int) bool { return !results[i].OK() })
	}
	text := fmt.Sprintf("%d of %d calls succeeded, and %d must; failed: %s", succeeded(results), len(results), wanted,
		strings.Join(failed, ", "))
	return &gatherError{node.Errorf(code, nil, "%s", text), failed, serverTiming(results)}
}

// namesOf returns the names of the parts that meet a condition.
func namesOf(results []mesh.PartResult, meets func(i int) bool) (names []string) {
	for i := range results {
		if meets(i) {
			names = append(names, results[i].Name)
		}
	}
	return names
}

// addCacheFields sets how an answer that is made of several parts may be cached: no longer, and no more widely, than
// any of the parts.
func (g *Gatherer) addCacheFields(x *exchange.Exchange, resp *mesh.Response, results []mesh.PartResult) {
	if g.spec.Mode.Single() {
		return // the answer is one part, with its own fields
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

// rewrites reports whether the route's response rules name the field.
func (g *Gatherer) rewrites(name string) bool {
	return g.rewrite != nil && g.rewrite.Response.Names(name)
}

// addReport adds the fields that say which parts are missing or fallbacks, and how long each took. No cache may store
// an answer with such parts.
func (g *Gatherer) addReport(x *exchange.Exchange, resp *mesh.Response, results []mesh.PartResult,
	outcomes []partOutcome,
) {
	missing := namesOf(results, func(i int) bool {
		if g.spec.Mode.Single() { // only the part that became the answer counts
			return results[i].Response == resp && outcomes[i].fellBack
		}
		return !results[i].OK() || outcomes[i].fellBack
	})
	if len(missing) > 0 {
		resp.Header.Add("Millrace-Partial", strings.Join(missing, ", "))
		resp.Header.Set("Cache-Control", "no-store")
		resp.Header.Del(node.TargetedField)
		x.Outcome.Incomplete = true
	}
	resp.Header.Add("Server-Timing", serverTiming(results))
}

// serverTiming returns how long each part took that ended by itself (https://www.w3.org/TR/server-timing).
func serverTiming(results []mesh.PartResult) string {
	var took []string
	for i := range results {
		if r := &results[i]; ended(r) {
			took = append(took, r.Name+";dur="+strconv.FormatFloat(float64(r.Took.Microseconds())/1000, 'f', 1, 64))
		}
	}
	return strings.Join(took, ", ")
}

// jsonPart is a part as it is written into a JSON answer.
type jsonPart struct {
	*mesh.PartResult

	embeds bool // the body is valid JSON and is written as it is
}

// newJSONPart checks the body. JSON that is nested very deeply isn't embedded, because many parsers fail on it, and
// some end their process.
func newJSONPart(r *mesh.PartResult) jsonPart {
	w := jsonPart{PartResult: r}
	if resp := r.Response; resp != nil {
		w.embeds = isJSON(resp.Header.Get("Content-Type")) && json.Valid(resp.Body) && utf8.Valid(resp.Body)
	}
	return w
}

// size estimates how many bytes the part takes in the answer. It is at least what its body takes.
func (w jsonPart) size() int {
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

// object appends a JSON object with a member for each part. value appends the member's value, or returns nil if the
// part has none.
func object(b []byte, parts []jsonPart, value func(w jsonPart, b []byte) []byte) []byte {
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

// appendSettled appends the status of a part, and its body or error.
func (w jsonPart) appendSettled(b []byte) []byte {
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

// appendBody appends the body of a part that succeeded, or returns nil.
func (w jsonPart) appendBody(b []byte) []byte {
	if !w.OK() {
		return nil
	}
	return w.body(b)
}

// body appends a part's body: as it is if it is JSON, else as a string.
func (w jsonPart) body(b []byte) []byte {
	switch body := w.Response.Body; {
	case len(body) == 0:
		return append(b, "null"...)
	case w.embeds:
		return append(b, body...)
	default:
		return gjson.AppendJSONString(b, strings.ToValidUTF8(string(body), "\uFFFD"))
	}
}

// isJSON reports whether a media type is JSON or based on it (RFC 6839 §3.1).
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
