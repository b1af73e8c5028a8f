package cache

import (
	"errors"
	"math/rand/v2"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
)

// downFor is the longest time for which an origin that couldn't be reached isn't asked again for the same key. Each key
// gets a random part of it.
const downFor = time.Second

var errDown = node.Errorf(node.CodeUpstream, nil, "the origin couldn't be reached a moment ago")

// connectionClosed is the text of a mark that only stops refreshes in the background: the origin closed the connection.
const connectionClosed = "hung up"

// noteDown records that no origin was reached. An origin that is only slow is asked again, and so is one that closed
// the connection: it may have done so because of this one request.
func (c *records) noteDown(l *lookup, err error) {
	mark := &httpcache.Record{Kind: httpcache.KindPass}
	switch {
	case unreached(err):
	case node.CodeOf(err) == node.CodeUpstream:
		mark.Text = connectionClosed
	default:
		return
	}
	keep := time.Duration(rand.Int64N(int64(downFor))) //nolint:gosec // G404: a spread, not a secret
	c.putEntry(downKey(l.primary), mark, kvcache.Scope{}, keep, kvcache.MemoryOnly)
}

// unreached reports whether an error says that no origin was reached, whatever the request.
func unreached(err error) bool {
	e, ok := errors.AsType[*node.Error](err)
	return ok && (e.Unreached || e.Code == node.CodeNoTarget || e.Code == node.CodeNoMember)
}

// isDown reports whether no origin was reached a moment ago.
func (c *records) isDown(l *lookup) bool {
	text, marked := c.downMark(l)
	return marked && text != connectionClosed
}

// downMark returns the text of the mark that noteDown has set, if there is one.
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
