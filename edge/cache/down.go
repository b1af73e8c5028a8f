package cache

import (
	"errors"
	"math/rand/v2"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
)

// downFor is how long an origin that wasn't there isn't asked again for the same, at most: each key has a time of its
// own.
const downFor = time.Second

var errDown = node.Errorf(node.CodeUpstream, nil, "the origin couldn't be reached a moment ago")

// hungUp is the text of a mark that only holds up who needn't ask: a refresh in the background.
const hungUp = "hung up"

// noteDown remembers that nobody was there to answer. An origin that is only slow is asked again, and so is one that
// hung up: it may have done so because of this one request.
func (c *records) noteDown(l *lookup, err error) {
	mark := &httpcache.Record{Kind: httpcache.KindPass}
	switch {
	case nobody(err):
	case node.CodeOf(err) == node.CodeUpstream:
		mark.Text = hungUp
	default:
		return
	}
	keep := time.Duration(rand.Int64N(int64(downFor))) //nolint:gosec // G404: a spread, not a secret
	c.putEntry(downKey(l.primary), mark, kvcache.Scope{}, keep, kvcache.MemoryOnly)
}

// nobody reports whether an error says that there was nobody to answer, whatever the request.
func nobody(err error) bool {
	e, ok := errors.AsType[*node.Error](err)
	return ok && (e.Unreached || e.Code == node.CodeNoTarget || e.Code == node.CodeNoMember)
}

// isDown reports whether nobody was there a moment ago.
func (c *records) isDown(l *lookup) bool {
	text, marked := c.downMark(l)
	return marked && text != hungUp
}

// downMark gives the mark of noteDown.
func (c *records) downMark(l *lookup) (text string, marked bool) {
	var v kvcache.View
	if !c.store.Get(downKey(l.primary), &v) {
		return "", false
	}
	defer v.Release()
	var rec httpcache.Record
	err := rec.Decode(v.Value)
	return rec.Text, err == nil
}

func downKey(primary []byte) []byte { return append([]byte{byte(kvcache.SpaceDown)}, primary...) }
