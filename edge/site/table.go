package site

import (
	"sync/atomic"
	"unsafe"

	"millrace/kvcache/httpcache"
	"millrace/node/site"
)

// maxTable bounds the memory of a table, in bytes: some 12,000 heads. A table that grows beyond it begins anew.
const maxTable = 8 << 20

// table has the heads of one deploy, as one route sends them. They are made when they are asked for.
type table struct {
	deploy  *Deploy
	entries []atomic.Pointer[entry] // by Entry.Number
	bytes   atomic.Int64
}

// entry has the heads of one file with the same rules of _headers. It doesn't change, but for heads that are added.
type entry struct {
	rules *site.Rules // an index has one value for the same rules; see site.Rules.Number
	next  *entry      // of the same file with other rules: at other paths
	there [httpcache.NumCodings]bool
	heads [httpcache.NumCodings]atomic.Pointer[head]
}

// headOf returns the head of the file that is found at a path, in the best coding for a request. It doesn't allocate if
// the head is in the table of the live deploy.
func (p *Policy) headOf(f *found, path string, want *httpcache.Weights) *head {
	rules := f.deploy.Index.Rules(f.File, path)
	t := f.part.tableOf(f.deploy)
	if t == nil || (rules != nil && rules.Number < 0) {
		return p.newHead(f, rules, want.Best(codingsOf(f.File)))
	}
	e := f.part.entryOf(t, f.File, rules)
	c := want.Best(e.there)
	h := e.heads[c].Load()
	if h == nil {
		h = p.newHead(f, rules, c)
		e.heads[c].Store(h)
		f.part.grow(t, unsafe.Sizeof(*h)+uintptr(cap(h.lines)))
	}
	return h
}

// entryOf returns the entry of a file with such rules, and adds it if it is missing. Of two that are added at once one
// is lost, which costs that it is made again.
func (part *part) entryOf(t *table, file *site.Entry, rules *site.Rules) *entry {
	slot := &t.entries[file.Number]
	first := slot.Load()
	for e := first; e != nil; e = e.next {
		if e.rules == rules {
			return e
		}
	}
	e := &entry{rules: rules, next: first, there: codingsOf(file)}
	slot.Store(e)
	part.grow(t, unsafe.Sizeof(*e))
	return e
}

// tableOf returns the table of the deploy that is live. It returns nil for the nil part.
func (part *part) tableOf(live *Deploy) *table {
	if part == nil {
		return nil
	}
	t := part.table.Load()
	if t == nil || t.deploy != live {
		t = &table{deploy: live, entries: make([]atomic.Pointer[entry], live.Index.Len())}
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
