package guard

import "time"

// minRate is how many bytes a second a client must move, on average, of a long body.
const minRate = 4 << 10

// pace bounds how long a client may hold up a body that streams: its time-out, and a second more for every minRate
// bytes. Only the time counts that we wait for the client, not the time that it waits for us.
type pace struct {
	grace  time.Duration
	moved  int64
	waited time.Duration

	// For who writes:
	slow  bool  // the last wait was long
	sent  int64 // bytes written in all
	acked int64 // of them the client's side had at the end of the wait before
}

// deadline is when a wait that begins now must end.
func (p *pace) deadline(now time.Time) time.Time {
	return now.Add(p.grace - p.waited + time.Duration(p.moved/minRate)*time.Second)
}

// count takes note of the time of one wait, and of the bytes that moved in it.
func (p *pace) count(n int64, waited time.Duration) {
	p.moved += n
	p.waited += waited
}

// taken is how many of the n bytes written in one wait count as moved: those that the client's side has acknowledged
// since the wait before. A node that is short of CPU waits too, while the bytes only fill the system's buffers.
func (p *pace) taken(n, queued int64) int64 {
	before := p.acked
	p.acked = max(before, p.sent-queued)
	return min(n, p.acked-before)
}
