package logs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

// Handler passes records to another handler. In warnings and errors it hides secrets, and it thins out those that
// repeat. Debug and info records pass unchanged: the operator chose their number by the level.
type Handler struct {
	next   slog.Handler
	shared *shared
	source string // identifies the source of this handler's lines, from its attributes
}

// shared is common to all handlers derived from one New.
type shared struct {
	secrets Secrets
	table   table
}

// New returns a Handler that passes records to next. Close must follow.
func New(next slog.Handler) *Handler { return &Handler{next: next, shared: &shared{}} }

// Of returns the Handler of a logger, if it has one.
func Of(log *slog.Logger) (*Handler, bool) {
	h, ok := log.Handler().(*Handler)
	return h, ok
}

// Secrets returns the secrets that this handler and all derived from it hide.
func (h *Handler) Secrets() *Secrets { return &h.shared.secrets }

// Close writes the pending counts at once. Later lines are written without thinning. It can be called again.
func (h *Handler) Close() { h.shared.table.close() }

// Enabled reports whether the next handler handles records of the level.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle writes the record or counts it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
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
	return h.next.Handle(ctx, clean)
}

// WithAttrs returns a handler with the same table and secrets.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs, source := slices.Clone(attrs), []byte(h.source)
	for i, a := range attrs {
		attrs[i] = h.hide(a)
		source = identify(source, attrs[i])
	}
	return &Handler{h.next.WithAttrs(attrs), h.shared, string(source)}
}

// WithGroup returns a handler with the same table and secrets.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.shared, h.source}
}

// hide returns the attribute without secrets.
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

// sources are the attributes that say whom or what a line is about. Lines that differ in one of them aren't similar.
var sources = []string{
	"peer", "client", "name", "id", "route", "call", "limit", "upstream", "target", "host", "service", "event", "kind",
	"file", "address",
}

// texts are the attributes that say what happened. Lines whose words differ in one of them aren't similar.
var texts = []string{"text", "cause", "error", "warning"}

// identify appends what an attribute adds to the identity of its line.
func identify(source []byte, a slog.Attr) []byte {
	switch {
	case slices.Contains(sources, a.Key):
		source = append(append(source, a.Key...), '=')
		text := a.Value.String()
		source = append(source, text[:min(len(text), maxAttrBytes)]...)
	case slices.Contains(texts, a.Key):
		source = append(append(source, a.Key...), '=')
		source = appendShape(source, a.Value.String())
	default:
		return source
	}
	return append(source, 0)
}

// maxAttrBytes bounds what is kept of one attribute.
const maxAttrBytes = 96

// appendShape appends a text without what differs from line to line: numbers and quoted strings.
func appendShape(out []byte, s string) []byte {
	begin := len(out)
	for i := 0; i < len(s) && len(out)-begin < maxAttrBytes; i++ {
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
