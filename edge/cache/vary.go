package cache

import (
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
)

// Responses of one URL may depend on fields of their requests. Then the URL's own key holds a record of kind KindVary
// that names the fields, and each response has a key that includes the values its request had in them. Responses may
// name different fields: the record's Text holds all sets of names seen, the newest first, with commas within a set and
// semicolons between sets.
//
// A response that names no fields is stored under the values of all fields known for the URL, because some origins name
// the fields only if a request has one of them (RFC 9111 §4.1, last paragraph). So it neither hides the others nor
// replaces them.

// Bounds of the record of one URL's variants.
const (
	maxVariants = 64 // beyond them the oldest isn't found anymore
	maxSets     = 4  // likewise
)

// selectVariant finds the stored response whose fields match the exchange. l.rec must be the record of the URL's
// variants. If several match, the one with the most recent Date is selected.
func (l *lookup) selectVariant(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) (ok bool) {
	l.vary, l.ids = l.rec.Text, l.rec.IDs
	l.view.Release()
	if strings.IndexByte(l.vary, ';') >= 0 {
		return l.selectRecent(x, get)
	}
	l.key = l.variant(x, l.vary)
	return slices.Contains(l.ids, variantID(l.key)) && l.read(l.key, get)
}

// selectRecent is selectVariant for responses that name different fields.
func (l *lookup) selectRecent(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) bool {
	var best []byte
	var newest time.Time
	for names := range strings.SplitSeq(l.vary, ";") {
		key := l.variant(x, names)
		if len(l.key) == len(l.primary) {
			l.key = key // the key by which a fetch is found
		}
		if !slices.Contains(l.ids, variantID(key)) || !l.read(key, get) {
			continue
		}
		valid := l.rec.Kind == httpcache.KindResponse && l.c.store.Judge(&l.view.Scope, keyURL(key)) != kvcache.Invalid
		if made := l.rec.Date(); valid && (best == nil || made.After(newest)) {
			best, newest = key, made
		}
		l.view.Release()
	}
	if best == nil || !l.read(best, get) {
		return false
	}
	l.key = best
	return true
}

// variant returns the key for the exchange's values in a set of names.
func (l *lookup) variant(x *exchange.Exchange, names string) []byte {
	return l.c.appendVariant(slices.Clip(l.primary), strings.Split(names, ","), x)
}

func variantID(key []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(key) // never fails
	return h.Sum64()
}

// variantNames returns the names of the fields whose values are in the key of a response with such a Vary; none if it
// is the only response of its URL.
func (c *variants) variantNames(primary []byte, vary []string) []string {
	if len(vary) > 0 {
		return vary
	}
	known, _ := c.knownVariants(primary)
	var names []string
	if known.Text != "" {
		names = strings.FieldsFunc(known.Text, func(r rune) bool { return r == ',' || r == ';' })
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// knownVariants returns what the memory knows of a URL's variants, and until when. The record is empty if it knows of
// none.
func (c *records) knownVariants(primary []byte) (rec httpcache.Record, until time.Time) {
	var v kvcache.View
	if !c.store.Get(primary, &v) {
		return httpcache.Record{}, time.Time{}
	}
	defer v.Release()
	if rec.Decode(v.Value) != nil || rec.Kind != httpcache.KindVary {
		return httpcache.Record{}, time.Time{}
	}
	return rec, v.Expires
}

// storedFor returns what is stored under the key that a response to the exchange would get. The caller must release it.
func (c *writing) storedFor(x *exchange.Exchange, l *lookup, a *admitted) *lookup {
	primary, _ := c.primaryKey(x, l, a)
	d := &lookup{c: &c.records, now: time.Now(), primary: primary, key: primary}
	if names := c.variantNames(primary, a.vary); len(names) > 0 {
		d.key = c.appendVariant(slices.Clip(primary), names, x)
	}
	if d.read(d.key, c.store.Get) {
		d.hit = d.rec.Kind == httpcache.KindResponse && c.store.Judge(&d.view.Scope, keyURL(primary)) != kvcache.Invalid
	}
	return d
}

// variantKey returns the key under which a response to the exchange is stored, and records how it differs from others
// of its URL.
func (c *variants) variantKey(x *exchange.Exchange, primary []byte, a *admitted, tiers kvcache.Tiers) []byte {
	names := c.variantNames(primary, a.vary)
	if len(names) == 0 {
		return primary
	}
	key := c.appendVariant(slices.Clip(primary), names, x)
	note := httpcache.Record{Kind: httpcache.KindVary, Text: strings.Join(names, ","), IDs: []uint64{variantID(key)}}
	var until time.Time // a response that names no fields doesn't prolong the record
	if len(a.vary) > 0 {
		until = time.Now().Add(a.stored.Keep() + time.Minute)
	}
	c.note(primary, note, until, tiers)
	return key
}

// note adds to the record of a URL's variants. A response that was stored as the only one of the URL becomes the
// variant of requests without the fields.
func (c *variants) note(primary []byte, more httpcache.Record, until time.Time, tiers kvcache.Tiers) {
	c.shared.varyMu.Lock()
	defer c.shared.varyMu.Unlock()
	known, before := c.knownVariants(primary)
	if known.Text == "" {
		more.IDs = append(c.moveOnly(primary, more.Text), more.IDs...)
	}
	merged := mergeVary(known, more)
	switch {
	case merged.Text != known.Text || !slices.Equal(merged.IDs, known.IDs):
	case time.Until(before) > time.Until(until)/2:
		tiers = kvcache.MemoryOnly // nothing new for other nodes
	}
	if until.Before(before) {
		until = before
	}
	c.putEntry(primary, &merged, kvcache.Scope{}, time.Until(until), tiers)
}

// moveOnly stores the only response of a URL again as the variant of requests without the fields, before its key is
// overwritten by the record of variants.
func (c *variants) moveOnly(primary []byte, names string) []uint64 {
	only := &lookup{c: &c.records}
	defer only.release()
	if !only.read(primary, c.store.Get) || only.rec.Kind != httpcache.KindResponse {
		return nil
	}
	names, _, _ = strings.Cut(names, ";")
	key := httpcache.AppendVariant(slices.Clip(primary), strings.Split(names, ","), nil)
	entry := kvcache.Entry{Key: key, Value: only.view.Value, Expires: only.view.Expires, Scope: only.view.Scope}
	c.store.Put(&entry, kvcache.BothTiers)
	return []uint64{variantID(key)}
}

// mergeVary combines two records: the sets of the second come first, its ids last.
func mergeVary(known, more httpcache.Record) httpcache.Record {
	sets := strings.Split(more.Text, ";")
	for set := range strings.SplitSeq(known.Text, ";") {
		if set != "" && !slices.Contains(sets, set) {
			sets = append(sets, set)
		}
	}
	ids := slices.Clone(known.IDs)
	for _, id := range more.IDs {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return httpcache.Record{
		Kind: httpcache.KindVary, Text: strings.Join(sets[:min(len(sets), maxSets)], ";"),
		IDs: ids[max(len(ids)-maxVariants, 0):],
	}
}

// restoreVariants restores what the memory knew of variants after an older record came from the bucket. The bucket is
// written later than memory, and by all nodes.
func (c *variants) restoreVariants(l *lookup) {
	if l.vary == "" {
		return
	}
	if now, _ := c.knownVariants(l.primary); now.Text != l.vary || !slices.Equal(now.IDs, l.ids) {
		c.note(l.primary, httpcache.Record{Text: l.vary, IDs: l.ids}, time.Now().Add(time.Minute), kvcache.MemoryOnly)
	}
}
