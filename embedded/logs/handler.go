package logs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

// Handler passes records on to another handler. Of warnings and errors it hides secrets and thins what repeats; what is
// less is none of its business: debug and information are as many as an operator has asked for.
type Handler struct {
	next   slog.Handler
	shared *shared
	source string // what identifies the lines of this handler, of the attributes that it has
}

// shared is what all handlers that come of one New have in common.
type shared struct {
	secrets Secrets
	table   table
}

// New wraps a handler. Close must follow.
func New(next slog.Handler) *Handler { return &Handler{next: next, shared: &shared{}} }

// Of gives the Handler of a logger, if it has one.
func Of(log *slog.Logger) (*Handler, bool) {
	h, ok := log.Handler().(*Handler)
	return h, ok
}

// Secrets are those that this handler hides, and all that come of it.
func (h *Handler) Secrets() *Secrets { return &h.shared.secrets }

// Close writes the numbers that wait at once. Later lines are written as they come. It can be called again.
func (h *Handler) Close() { h.shared.table.close() }

// Enabled asks the next handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle writes the record, or counts it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r) //nolint:wrapcheck // a handler's error is its own
	}
	clean := slog.NewRecord(r.Time, r.Level, h.shared.secrets.Hide(r.Message), r.PC)
	source := []byte(h.source)
	r.Attrs(func(a slog.Attr) bool {
		a = h.hide(a)
		source = identify(source, a)
		clean.AddAttrs(a)
		return true
	})
	if !h.shared.table.take(key{r.Level, r.Message, string(source)}, h.next, clean) {
		return nil
	}
	return h.next.Handle(ctx, clean) //nolint:wrapcheck // see above
}

// WithAttrs gives a handler of the same table and secrets.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs, source := slices.Clone(attrs), []byte(h.source)
	for i, a := range attrs {
		attrs[i] = h.hide(a)
		source = identify(source, attrs[i])
	}
	return &Handler{h.next.WithAttrs(attrs), h.shared, string(source)}
}

// WithGroup gives a handler of the same table and secrets.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.shared, h.source}
}

// hide gives the attribute without secrets.
func (h *Handler) hide(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(h.shared.secrets.Hide(v.String()))
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = h.hide(group[i])
		}
		a.Value = slog.GroupValue(group...)
	case slog.KindAny:
		text := fmt.Sprint(v.Any())
		if clean := h.shared.secrets.Hide(text); clean != text {
			a.Value = slog.StringValue(clean)
		}
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindLogValuer, slog.KindTime,
		slog.KindUint64:
	}
	return a
}

// sources are the attributes that say whom or what a line is about: lines that differ in one of them aren't alike.
var sources = []string{ //nolint:gochecknoglobals // a constant
	"peer", "client", "name", "id", "route", "call", "limit", "upstream", "target", "host", "service", "event", "kind",
	"file", "address",
}

// texts are the attributes that say what has happened: lines that differ in their words aren't alike.
var texts = []string{"text", "cause", "error", "warning"} //nolint:gochecknoglobals // a constant

// identify appends what an attribute adds to the identity of its line.
func identify(source []byte, a slog.Attr) []byte {
	switch {
	case slices.Contains(sources, a.Key):
		source = append(append(source, a.Key...), '=')
		text := a.Value.String()
		source = append(source, text[:min(len(text), longest)]...)
	case slices.Contains(texts, a.Key):
		source = append(append(source, a.Key...), '=')
		source = appendShape(source, a.Value.String())
	default:
		return source
	}
	return append(source, 0)
}

// longest bounds what is remembered of one attribute.
const longest = 96

// appendShape appends a text without what differs from line to line: numbers, and what stands in quotes.
func appendShape(out []byte, s string) []byte {
	begin := len(out)
	for i := 0; i < len(s) && len(out)-begin < longest; i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			if out[len(out)-1] != '0' {
				out = append(out, '0')
			}
		case c == '"':
			out = append(out, c)
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		default:
			out = append(out, c)
		}
	}
	return out
}
