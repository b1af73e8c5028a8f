package exchange

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// Stored is a response as it comes from the store: its fields are lines already, and its body lies in the store's
// memory until View is released. Whoever writes it, or takes it over, releases it.
type Stored struct {
	View   kvcache.View
	Head   []byte // field lines
	Age    time.Duration
	Status httpcache.Status
}

// AppendHead appends the field lines, Age and Cache-Status among them.
func (s *Stored) AppendHead(b []byte) []byte {
	b = append(b, s.Head...)
	b = append(strconv.AppendInt(append(b, "Age: "...), int64(s.Age.Seconds()), 10), "\r\nCache-Status: "...)
	return append(s.Status.Append(b), "\r\n"...)
}

// CopyStored takes a response out of the store's memory, if it lies there, with how old it is and for how long it is
// still fresh: what said so to the cache alone wasn't stored.
func (x *Exchange) CopyStored(resp *mesh.Response) {
	if x.Outcome.Stored == nil {
		return
	}
	h, _, err := http1.ParseFields(append(slices.Clone(x.Outcome.Stored.Head), "\r\n"...))
	if err == nil { // they were checked before they were stored
		resp.Header = append(h, resp.Header...)
	}
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
	resp.Header.Set("Age", seconds(x.Outcome.Stored.Age))
	resp.Header.Set(node.TargetedField, "max-age="+seconds(max(x.Outcome.Stored.Status.TTL, 0)+x.Outcome.Stored.Age))
	resp.Body = slices.Clone(resp.Body)
	x.Outcome.Stored.View.Release()
	x.Outcome.Stored = nil
}

// CloseBody ends the interest in a response's body. The response may be nil.
func CloseBody(resp *mesh.Response) {
	if resp != nil && resp.Stream != nil {
		_ = resp.Stream.Close() // nobody wants the rest
	}
}

// ErrGone means that the client went away.
var ErrGone = node.Errorf(node.CodeCanceled, nil, "the client went away")

// Ended says as an error why a context ended.
func Ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return node.Errorf(node.CodeTimeout, ctx.Err(), "no answer within the deadline")
	}
	return ErrGone
}
