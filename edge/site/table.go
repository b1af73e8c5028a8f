package site

import (
	"sync/atomic"
	"unsafe"

	"millrace/kvcache/httpcache"
)

// maxTable bounds the memory of a table, in bytes: some 12,000 heads. A table that grows beyond it begins anew.
const maxTable = 8 << 20

// table has the heads of one deploy, as one route sends them. They are made when they are asked for.
type table struct {
	deploy  *Deploy
	entries []atomic.Pointer[entry] // by Entry.Number
	bytes   atomic.Int64
	rules   bool // the deploy has rules of _headers, which depend on the path of the request
}

// entry has the heads of one file. It doesn't change, but for heads that are added.
type entry struct {
	there [httpcache.NumCodings]bool
	heads [httpcache.NumCodings]atomic.Pointer[head]
}

// headOf returns the head of the file that is found, in the best coding for a request. It doesn't allocate if the head
// is in the table of the live deploy.
func (p *Policy) headOf(f *found, path string, want *httpcache.Weights) *head {
	t := f.part.tableOf(f.deploy)
	if t == nil || (t.rules && path != f.File.URL) {
		return p.newHead(f, path, want.Best(codingsOf(f.File)))
	}
	e := t.entries[f.File.Number].Load()
	if e == nil {
		e = &entry{there: codingsOf(f.File)}
		t.entries[f.File.Number].Store(e)
		f.part.grow(t, unsafe.Sizeof(*e))
	}
	c := want.Best(e.there)
	h := e.heads[c].Load()
	if h == nil {
		h = p.newHead(f, path, c)
		e.heads[c].Store(h)
		f.part.grow(t, unsafe.Sizeof(*h)+uintptr(cap(h.lines)))
	}
	return h
}

// tableOf returns the table of the deploy that is live. It returns nil for the nil part.
func (part *part) tableOf(live *Deploy) *table {
	if part == nil {
		return nil
	}
	t := part.table.Load()
	if t == nil || t.deploy != live {
		t = &table{deploy: live, entries: make([]atomic.Pointer[entry], live.Index.Len())}
		t.rules = len(live.Index.Manifest().Headers) > 0
		part.table.Store(t)
	}
	return t
}

// grow counts n bytes more in the table, and drops it if that is too much.
func (part *part) grow(t *table, n uintptr) {
	if t.bytes.Add(int64(n)) > maxTable { //nolint:gosec // G115: heads are small
		part.table.CompareAndSwap(t, nil)
	}
}
