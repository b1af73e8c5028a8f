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

// Responses of one URL may depend on fields of their requests. Then the URL's own key holds on which (KindVary), and
// each response has a key with the values that its request had in them. Responses may name different fields: Text holds
// all sets of names that there were, the newest first, with commas within and semicolons between them. A response that
// names none is kept by the values of all names that are known, for some origins name the fields only where a request
// has one of them (RFC 9111 §4.1, last paragraph): so it neither hides the others nor stands in for them.

// Bounds of what is known of one URL.
const (
	maxVariants = 64 // beyond them the oldest isn't found any more
	maxSets     = 4  // likewise
)

// choose finds the stored response whose fields match the exchange, of which the view's record has told. Of several,
// the most recent counts.
func (l *lookup) choose(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) (ok bool) {
	l.vary, l.ids = l.rec.Text, l.rec.IDs
	l.view.Release()
	if strings.IndexByte(l.vary, ';') >= 0 {
		return l.chooseRecent(x, get)
	}
	l.key = l.variant(x, l.vary)
	return slices.Contains(l.ids, variantID(l.key)) && l.read(l.key, get)
}

// chooseRecent is choose for responses that name different fields.
func (l *lookup) chooseRecent(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) bool {
	var best []byte
	var newest time.Time
	for names := range strings.SplitSeq(l.vary, ";") {
		key := l.variant(x, names)
		if len(l.key) == len(l.primary) {
			l.key = key // what a fetch is known by
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

// variant gives the key of the exchange's values in a set of names.
func (l *lookup) variant(x *exchange.Exchange, names string) []byte {
	return l.c.appendVariant(slices.Clip(l.primary), strings.Split(names, ","), x)
}

func variantID(key []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(key) // never fails
	return h.Sum64()
}

// chosenBy gives the names of the fields by which a response is kept that has such a Vary; none if it is the only one
// of its URL.
func (c *variants) chosenBy(primary []byte, vary []string) []string {
	if len(vary) > 0 {
		return vary
	}
	known, _ := c.known(primary)
	var names []string
	if known.Text != "" {
		names = strings.FieldsFunc(known.Text, func(r rune) bool { return r == ',' || r == ';' })
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// known gives what the memory knows of a URL's variants, and until when. An empty record means that it knows of none.
func (c *records) known(primary []byte) (rec httpcache.Record, until time.Time) {
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

// stands gives what is stored where a response to the exchange would be. It must be released.
func (c *writing) stands(x *exchange.Exchange, l *lookup, a *admitted) *lookup {
	primary, _ := c.searchedBy(x, l, a)
	d := &lookup{c: &c.records, now: time.Now(), primary: primary, key: primary}
	if names := c.chosenBy(primary, a.vary); len(names) > 0 {
		d.key = c.appendVariant(slices.Clip(primary), names, x)
	}
	if d.read(d.key, c.store.Get) {
		d.hit = d.rec.Kind == httpcache.KindResponse && c.store.Judge(&d.view.Scope, keyURL(primary)) != kvcache.Invalid
	}
	return d
}

// variantKey gives the key under which a response to the exchange is stored, and notes in what it differs from others
// of its URL.
func (c *variants) variantKey(x *exchange.Exchange, primary []byte, a *admitted, tiers kvcache.Tiers) []byte {
	names := c.chosenBy(primary, a.vary)
	if len(names) == 0 {
		return primary
	}
	key := c.appendVariant(slices.Clip(primary), names, x)
	note := httpcache.Record{Kind: httpcache.KindVary, Text: strings.Join(names, ","), IDs: []uint64{variantID(key)}}
	var until time.Time // what names no fields itself keeps nobody from forgetting them
	if len(a.vary) > 0 {
		until = time.Now().Add(a.stored.Keep() + time.Minute)
	}
	c.note(primary, note, until, tiers)
	return key
}

// note adds to what is known of a URL's variants. What was stored as the only response of the URL becomes the one of
// requests without the fields.
func (c *variants) note(primary []byte, more httpcache.Record, until time.Time, tiers kvcache.Tiers) {
	c.shared.varying.Lock()
	defer c.shared.varying.Unlock()
	known, before := c.known(primary)
	if known.Text == "" {
		more.IDs = append(c.moveOnly(primary, more.Text), more.IDs...)
	}
	merged := mergeVary(known, more)
	switch {
	case merged.Text != known.Text || !slices.Equal(merged.IDs, known.IDs):
	case time.Until(before) > time.Until(until)/2:
		tiers = kvcache.MemoryOnly // nothing new for others
	}
	if until.Before(before) {
		until = before
	}
	c.putEntry(primary, &merged, kvcache.Scope{}, time.Until(until), tiers)
}

// moveOnly keeps the only response of a URL as that of requests without the fields, before its key is taken for another
// use.
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

// mergeVary gives what two records say together: the sets of the second one first, and its ids last.
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

// keepVariants puts back what the memory knew of variants before something older came from the bucket, which is written
// later and by all nodes.
func (c *variants) keepVariants(l *lookup) {
	if l.vary == "" {
		return
	}
	if now, _ := c.known(l.primary); now.Text != l.vary || !slices.Equal(now.IDs, l.ids) {
		c.note(l.primary, httpcache.Record{Text: l.vary, IDs: l.ids}, time.Now().Add(time.Minute), kvcache.MemoryOnly)
	}
}
