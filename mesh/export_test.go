package mesh

import "time"

// The codec, for tests that look at bytes.
var (
	AppendRequest  = appendRequest
	AppendResponse = appendResponse
	DecodeRequest  = decodeRequest
	DecodeResponse = decodeResponse
	DecodeStreamed = decodeStreamed
	DecodeInterim  = decodeInterim
	DecodeHead     = decodeRequestHead
	ReplyHint      = replyHint
	Covers         = covers
)

// KeepStreams looks at every stream now, as happens every few seconds.
func (c *Conn) KeepStreams() {
	for _, l := range c.links.all() {
		l.keep(0)
	}
}

// WindowPool tells how many bytes windows may still grow by, and how many there are without streams.
func (c *Conn) WindowPool() (left, whole int64) { return c.links.pool.Load(), windowPool }

// IdleStreams looks at every stream with the idle time-out that is set.
func (c *Conn) IdleStreams() {
	for _, l := range c.links.all() {
		l.keep(time.Duration(c.links.idle.Load()))
	}
}
