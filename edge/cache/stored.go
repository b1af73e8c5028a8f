package cache

import (
	"slices"
	"strconv"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// stored is an exchange.Stored from the store.
type stored struct {
	view   kvcache.View // holds the memory of head and body
	head   []byte       // field lines
	age    time.Duration
	status httpcache.Status
}

// AppendHead appends the field lines, with Age and Cache-Status.
func (s *stored) AppendHead(b []byte) (lines []byte, dated bool) {
	b = append(b, s.head...)
	b = append(strconv.AppendInt(append(b, "Age: "...), int64(s.age.Seconds()), 10), "\r\nCache-Status: "...)
	return append(s.status.Append(b), "\r\n"...), true
}

// Header returns the fields, with Age, and with node.TargetedField for the freshness that is left: the fields that
// stated it to this cache alone weren't stored.
func (s *stored) Header() mesh.Header {
	h, _, err := http1.ParseFields(append(slices.Clone(s.head), "\r\n"...))
	if err != nil { // they were checked before they were stored
		h = nil
	}
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
	h.Set("Age", seconds(s.age))
	h.Set(node.TargetedField, "max-age="+seconds(max(s.status.TTL, 0)+s.age))
	return h
}

// Release releases the memory.
func (s *stored) Release() { s.view.Release() }
