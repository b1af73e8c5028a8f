package cache

import (
	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// short is the policy's part on the short way: a fresh response in memory is given out as soon as the request's head is
// read, if nothing has to be asked or waited for. That is what most requests of a busy cache are, and going round by
// fasthttp would cost as much again as all else.
func (c *Policy) short() *exchange.Short {
	return &exchange.Short{Answer: c.answerNow, Done: c.hit}
}

// answerNow gives a fresh response that lies in memory whole, or nil.
func (c *serving) answerNow(x *exchange.Exchange) *mesh.Response {
	if c.bypasses(x) != "" {
		return nil
	}
	scratch := scratchOf(x)
	l := &scratch.lookup
	c.lookInto(x, l, x.Started) // which is now
	defer l.release()
	if !l.hit || l.use(x) != httpcache.UseFresh || l.rec.Chunks > 0 || c.early(l) {
		return nil
	}
	resp := &scratch.response
	if !c.serveInto(x, l, httpcache.Status{Hit: true}, resp) {
		return nil
	}
	if resp.Stream != nil {
		x.Outcome.Stored.View.Release()
		x.Outcome.Stored = nil
		return nil
	}
	resp.Header = scratch.fields[:0]
	return resp
}

// hit counts a response that was served without asking anybody.
func (c *Policy) hit(_ *exchange.Exchange, resp *mesh.Response) {
	c.stats.hits.Add(1)
	c.stats.hitBytes.Add(uint64(max(resp.Length, 0)))
}
