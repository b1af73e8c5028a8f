package guard

import "time"

// minRate is how many bytes a second a client must move, on average, of a long body.
const minRate = 4 << 10

// pace bounds how long a client may hold up a body that streams: its time-out, and a second more for every minRate bytes.
// Only the time counts that we wait for the client, not the time that it waits for us.
type pace struct {
	grace  time.Duration
	moved  int64
	waited time.Duration
	slow   bool // the last wait was long; for who writes
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
