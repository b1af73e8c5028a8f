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
func (c *Conn) ProbeStreams() {
	for _, s := range c.streams.all() {
		s.probe(0)
	}
}

// WindowPool tells how many bytes windows may still grow by, and how many there are without streams.
func (c *Conn) WindowPool() (left, whole int64) { return c.streams.pool.Load(), windowPool }

// IdleStreams looks at every stream with the idle time-out that is set.
func (c *Conn) EndIdleStreams() {
	for _, s := range c.streams.all() {
		s.probe(time.Duration(c.streams.idle.Load()))
	}
}
