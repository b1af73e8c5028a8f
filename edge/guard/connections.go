package guard

import (
	"cmp"
	"net"
	"net/netip"
	"time"
)

// A Listener has a bounded number of connections. One client must not be able to hold all of them, and idle connections
// must not keep others out. So each client has a share, and when the listener is full, connections that wait for a
// request, or for the rest of its head, are closed for new ones.

// clientOf returns the client that a connection counts against. It is invalid for clients that may have any number of
// connections.
func (l *Listener) clientOf(inner net.Conn) netip.Prefix {
	tcp, ok := inner.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if l.cfg.Exempt != nil && l.cfg.Exempt(addr) {
		return netip.Prefix{}
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64 // one customer of a provider has that many addresses
	}
	client, err := addr.Prefix(bits)
	if err != nil { // can't happen: bits is at most the address's length
		return netip.Prefix{}
	}
	return client
}

// admit returns a guarded connection if there may be one more. Otherwise it returns nil.
func (l *Listener) admit(inner net.Conn) *Conn {
	limits := l.limits.Load()
	client := l.clientOf(inner)
	ok := true
	l.mu.Lock()
	switch conns := l.clients[client]; {
	case client.IsValid() && len(conns) >= limits.MaxPerClient:
		l.noteFull()
		ok = l.evictIdle(conns)
	case l.open.Load() >= int64(limits.MaxConnections):
		l.noteFull()
		ok = l.evictIdle(l.conns)
	}
	l.mu.Unlock()
	if !ok {
		return nil
	}
	return l.Wrap(inner)
}

// add counts a connection. The caller holds mu.
func (l *Listener) add(c *Conn) {
	l.open.Add(1)
	l.conns[c] = struct{}{}
	if !c.client.IsValid() {
		return
	}
	if l.clients[c.client] == nil {
		l.clients[c.client] = map[*Conn]struct{}{}
	}
	l.clients[c.client][c] = struct{}{}
}

// remove undoes add. Further calls have no effect. The caller holds mu.
func (l *Listener) remove(c *Conn) {
	if _, counted := l.conns[c]; !counted {
		return
	}
	l.open.Add(-1)
	delete(l.conns, c)
	conns := l.clients[c.client]
	if delete(conns, c); len(conns) == 0 {
		delete(l.clients, c.client)
	}
}

// Values of Conn.waiting. It is 0 while the connection doesn't wait for a head, and evicted after it was closed for
// another. Else it is the time, in Unix nanoseconds, since when a whole head is waited for. The last bit of the time is
// set (unproven) if the client has proven nothing: it hasn't sent a request on this connection yet, or has begun a head
// and not completed it.
const (
	evicted  = -1
	unproven = 1
)

func waitStart(now time.Time, first bool) int64 {
	if first {
		return now.UnixNano() | unproven
	}
	return now.UnixNano() &^ unproven
}

// markUnproven records that the connection waits for the rest of a head.
func (c *Conn) markUnproven() {
	since := c.waiting.Load()
	if since == 0 {
		since = time.Now().UnixNano()
		c.waiting.Store(since | unproven)
		return
	}
	c.waiting.CompareAndSwap(since, since|unproven) // fails only if the connection was evicted meanwhile
}

// endWait records that the connection waits for nothing anymore, and reports whether it was evicted before.
func (c *Conn) endWait() (wasEvicted bool) {
	return c.waiting.Load() != 0 && c.waiting.Swap(0) == evicted
}

// sampleSize bounds the connections among which evictIdle chooses. Iteration over a map begins anywhere, so this is a
// random sample.
const sampleSize = 256

// evictIdle closes one of the connections that wait for a request, and reports whether it did. It chooses from a
// sample: connections of the client that has the most come first, then those that have proven nothing, then those that
// have waited longest. The caller holds mu.
func (l *Listener) evictIdle(conns map[*Conn]struct{}) bool {
	var oldest *Conn
	var since int64
	n := 0
	for c := range conns {
		if n++; n > sampleSize {
			break
		}
		idle := c.waiting.Load()
		if idle > 0 && (oldest == nil || l.evictsBefore(c, idle, oldest, since)) {
			oldest, since = c, idle
		}
	}
	if oldest == nil || !oldest.waiting.CompareAndSwap(since, evicted) { // a request has just arrived
		return false
	}
	l.remove(oldest)
	_ = oldest.Conn.Close() // the goroutine that reads it calls Close
	return true
}

// evictsBefore reports whether connection a, waiting since aSince, is closed before b. The caller holds mu.
func (l *Listener) evictsBefore(a *Conn, aSince int64, b *Conn, bSince int64) bool {
	return cmp.Or(
		cmp.Compare(l.connectionsOf(b), l.connectionsOf(a)),
		cmp.Compare(bSince&unproven, aSince&unproven),
		cmp.Compare(aSince, bSince),
	) < 0
}

// connectionsOf returns the number of connections of c's client. A client that may have any number counts as one. The
// caller holds mu.
func (l *Listener) connectionsOf(c *Conn) int { return max(len(l.clients[c.client]), 1) }

// fullState records that there were more connections than there may be.
type fullState struct {
	at          time.Time // when a connection was last refused, or closed for another
	measured    time.Time // when largest was last determined
	warned      time.Time
	largest     netip.Prefix
	connections int // of the client largest
}

// fullFor is how long the listener counts as full after it had to refuse or close a connection. measureEvery is how
// often the largest client is determined meanwhile.
const (
	fullFor      = time.Minute
	measureEvery = time.Second
)

// noteFull records that there are more connections than there may be, and logs it once a minute. The caller holds mu.
func (l *Listener) noteFull() {
	k := &l.full
	k.at = time.Now()
	if k.at.Sub(k.measured) >= measureEvery {
		k.measured = k.at
		k.largest, k.connections = l.largest()
	}
	if k.at.Sub(k.warned) < fullFor {
		return
	}
	k.warned = k.at
	l.cfg.Log.Warn("more client connections than there may be: idle ones are closed for new ones, others are refused",
		"connections", l.Connections(), "largest_client", k.largest.String(), "its_connections", k.connections)
}

// largest returns the client that has the most connections. The caller holds mu.
func (l *Listener) largest() (client netip.Prefix, n int) {
	for c, conns := range l.clients {
		if len(conns) > n {
			client, n = c, len(conns)
		}
	}
	return client, n
}

// Full reports whether connections had to be refused, or closed for others, within the last minute. It returns the
// client that had the most connections when that was last determined, and their number. The client is invalid if no
// client present has a share.
func (l *Listener) Full() (client netip.Prefix, connections int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := &l.full
	if k.at.IsZero() || time.Since(k.at) > fullFor {
		return netip.Prefix{}, 0, false
	}
	return k.largest, k.connections, true
}
