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

// Stored is a response from the store. Its fields are lines already, and its body is in the store's memory, which is
// valid until View is released. Whoever writes or copies the response must release View.
type Stored struct {
	View   kvcache.View
	Head   []byte // field lines
	Age    time.Duration
	Status httpcache.Status
}

// AppendHead appends the field lines, with Age and Cache-Status.
func (s *Stored) AppendHead(b []byte) []byte {
	b = append(b, s.Head...)
	b = append(strconv.AppendInt(append(b, "Age: "...), int64(s.Age.Seconds()), 10), "\r\nCache-Status: "...)
	return append(s.Status.Append(b), "\r\n"...)
}

// CopyStored copies a response of the store into resp and releases View. It does nothing for other responses. It sets
// Age, and node.TargetedField with the freshness that is left, because the fields that stated the freshness to this
// cache alone weren't stored.
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

// CloseBody closes the response's stream, if there is one. The response may be nil.
func CloseBody(resp *mesh.Response) {
	if resp != nil && resp.Stream != nil {
		_ = resp.Stream.Close() // what is left isn't needed
	}
}

// ErrGone means that the client has disconnected.
var ErrGone = node.Errorf(node.CodeCanceled, nil, "the client went away")

// Ended returns the error for a context that has ended: node.CodeTimeout after its deadline, else ErrGone.
func Ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return node.Errorf(node.CodeTimeout, ctx.Err(), "no answer within the deadline")
	}
	return ErrGone
}
