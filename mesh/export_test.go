package mesh

import "time"

// The codec, for tests of its bytes.
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

// ProbeStreams probes every stream now, as happens every few seconds.
func (c *Conn) ProbeStreams() {
	for _, s := range c.streams.all() {
		s.probe(0)
	}
}

// WindowPool returns how many bytes windows may still grow by, and how many without any stream.
func (c *Conn) WindowPool() (left, whole int64) { return c.streams.pool.Load(), windowPool }

// EndIdleStreams probes every stream with the configured idle timeout.
func (c *Conn) EndIdleStreams() {
	for _, s := range c.streams.all() {
		s.probe(time.Duration(c.streams.idle.Load()))
	}
}
