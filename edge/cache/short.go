package cache

import (
	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// short returns the policy's part of the short way: a fresh response in memory is served as soon as the request's head
// is read, if nobody has to be asked or waited for. Most requests of a busy cache are of this kind, and the way through
// fasthttp would double their cost.
func (c *Policy) short() *exchange.Short {
	return &exchange.Short{Answer: c.answerNow, Done: c.countHit}
}

// answerNow returns a fresh response that is in memory whole, or nil.
func (c *serving) answerNow(x *exchange.Exchange) *mesh.Response {
	if c.bypasses(x) != "" {
		return nil
	}
	scratch := scratchOf(x)
	l := &scratch.lookup
	c.lookInto(x, l, x.Started) // the exchange has just started
	defer l.release()
	if !l.hit || l.use(x) != httpcache.UseFresh || l.rec.Chunks > 0 || c.expiresEarly(l) {
		return nil
	}
	resp := &scratch.response
	if !c.serveInto(x, l, httpcache.Status{Hit: true}, resp) {
		return nil
	}
	if resp.Stream != nil {
		x.Outcome.Stored.Release()
		x.Outcome.Stored = nil
		return nil
	}
	resp.Header = scratch.fields[:0]
	return resp
}

// countHit counts a response that was served without asking anybody.
func (c *Policy) countHit(_ *exchange.Exchange, resp *mesh.Response) {
	c.stats.hits.Add(1)
	c.stats.hitBytes.Add(uint64(max(resp.Length, 0)))
}
