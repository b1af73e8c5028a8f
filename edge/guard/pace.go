package guard

import "time"

// minRate is how many bytes a second a client must send or read of a long body, on average.
const minRate = 4 << 10

// pace bounds how long a client may delay a streamed body: by its timeout, plus a second for every minRate bytes. Only
// the time in which the node waits for the client counts, not the time in which the client waits for the node.
type pace struct {
	grace  time.Duration
	moved  int64
	waited time.Duration

	// For writes only:
	slow  bool  // the last write waited long
	sent  int64 // bytes written so far
	acked int64 // of these, what the client had acknowledged at the end of the last wait
}

// deadline returns when a wait that begins now must end.
func (p *pace) deadline(now time.Time) time.Time {
	return now.Add(p.grace - p.waited + time.Duration(p.moved/minRate)*time.Second)
}

// count adds one wait, and the bytes that moved in it.
func (p *pace) count(n int64, waited time.Duration) {
	p.moved += n
	p.waited += waited
}

// acknowledged returns how many of the n bytes written in one wait count as moved: those that the client has
// acknowledged since the wait before. A node that is short of CPU waits too, while the bytes only fill the system's
// buffers. queued is how many bytes aren't acknowledged yet.
func (p *pace) acknowledged(n, queued int64) int64 {
	before := p.acked
	p.acked = max(before, p.sent-queued)
	return min(n, p.acked-before)
}
