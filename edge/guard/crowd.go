package guard

import (
	"cmp"
	"net"
	"net/netip"
	"time"
)

// A Listener has a bounded number of connections. One client must not be able to hold all of them, and connections on which
// nothing happens must not keep others out: so a client has a share at most, and when the listener is full, connections that
// wait for a request, or for the rest of its head, are closed for new ones.

// clientOf gives whose connection it is. It isn't valid for clients that may have any number of them.
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
		bits = 64 // what one customer of a provider has
	}
	client, err := addr.Prefix(bits)
	if err != nil { // the address has so many bits
		return netip.Prefix{}
	}
	return client
}

// admit guards an accepted connection if there is room for it. Nil means that there is none.
func (l *Listener) admit(inner net.Conn) *Conn {
	limits := l.limits.Load()
	client := l.clientOf(inner)
	l.mu.Lock()
	full := client.IsValid() && l.clients[client] >= limits.MaxPerClient
	if !full && l.open.Load() >= int64(limits.MaxConnections) {
		l.crowd()
		full = !l.makeRoom()
	}
	if full {
		l.crowd()
	}
	l.mu.Unlock()
	if full {
		return nil
	}
	return l.Wrap(inner)
}

// count adds to what is known of a connection's client. The caller holds mu, as for all that follows.
func (l *Listener) count(c *Conn, n int) {
	l.open.Add(int64(n))
	if !c.client.IsValid() {
		return
	}
	if l.clients[c.client] += n; l.clients[c.client] == 0 {
		delete(l.clients, c.client)
	}
}

// A connection's idle is 0 while nobody waits, givenUp when it was closed for another, and else since when a whole head is
// waited for, in Unix nanoseconds. The last bit of these is set for a client that has proven nothing: it hasn't sent a
// request on this connection yet, or has begun one and not ended its head.
const (
	givenUp  = -1
	unproven = 1
)

func waitingSince(now time.Time, first bool) int64 {
	if first {
		return now.UnixNano() | unproven
	}
	return now.UnixNano() &^ unproven
}

// waitsUnproven notes that the rest of a head is waited for.
func (c *Conn) waitsUnproven() {
	since := c.idle.Load()
	if since == 0 {
		since = time.Now().UnixNano()
		c.idle.Store(since | unproven)
		return
	}
	c.idle.CompareAndSwap(since, since|unproven) // which fails only when it was given up meanwhile
}

// stopWaiting notes that nothing is waited for any more, and reports whether the connection was given up before.
func (c *Conn) stopWaiting() (late bool) {
	return c.idle.Load() != 0 && c.idle.Swap(0) == givenUp
}

// looked bounds the connections that are looked at to find one that waits. Ranging over a map begins anywhere, so this is a
// sample.
const looked = 256

// makeRoom closes a connection that waits for a request: of those in the sample one of the client that has the most, of
// these one that has proven nothing, and of these the one that has waited longest.
func (l *Listener) makeRoom() bool {
	var victim *Conn
	var since int64
	n := 0
	for c := range l.conns {
		if n++; n > looked {
			break
		}
		idle := c.idle.Load()
		if idle > 0 && (victim == nil || l.before(c, idle, victim, since)) {
			victim, since = c, idle
		}
	}
	if victim == nil || !victim.idle.CompareAndSwap(since, givenUp) { // a request has just come
		return false
	}
	delete(l.conns, victim)
	l.count(victim, -1)
	_ = victim.Conn.Close() // whoever reads it closes it for good
	return true
}

// before reports whether connection a, which has waited since aSince, gives way before b.
func (l *Listener) before(a *Conn, aSince int64, b *Conn, bSince int64) bool {
	return cmp.Or(
		cmp.Compare(l.has(b), l.has(a)),
		cmp.Compare(bSince&unproven, aSince&unproven),
		cmp.Compare(aSince, bSince),
	) < 0
}

// has is the number of connections of a connection's client; one that may have any number counts as if it had this one only.
func (l *Listener) has(c *Conn) int { return max(l.clients[c.client], 1) }

// crowdedFor is how long the listener counts as crowded after it had to refuse or close a connection.
const crowdedFor = time.Minute

// crowd notes that there are more connections than there may be.
func (l *Listener) crowd() {
	l.crowded = time.Now()
	if l.crowded.Sub(l.warned) < crowdedFor {
		return
	}
	l.warned = l.crowded
	client, n := l.largest()
	l.cfg.Log.Warn("more client connections than there may be: idle ones are closed for new ones, others are refused",
		"connections", l.Connections(), "largest_client", client.String(), "its_connections", n)
}

// largest gives the client that has the most connections.
func (l *Listener) largest() (client netip.Prefix, n int) {
	for c, m := range l.clients {
		if m > n {
			client, n = c, m
		}
	}
	return client, n
}

// Crowded reports whether connections had to be refused, or closed for others, within the last minute, and gives the client that has the most, with their
// number.
func (l *Listener) Crowded() (client netip.Prefix, connections int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crowded.IsZero() || time.Since(l.crowded) > crowdedFor {
		return netip.Prefix{}, 0, false
	}
	client, connections = l.largest()
	return client, connections, true
}
