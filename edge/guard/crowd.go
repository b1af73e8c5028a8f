package guard

import (
	"cmp"
	"net"
	"net/netip"
	"time"
)

// A Listener has a bounded number of connections. One client must not be able to hold all of them, and connections on
// which nothing happens must not keep others out: so a client has a share at most, and when the listener is full,
// connections that wait for a request, or for the rest of its head, are closed for new ones.

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
	room := true
	l.mu.Lock()
	switch own := l.clients[client]; {
	case client.IsValid() && len(own) >= limits.MaxPerClient:
		l.noteCrowd()
		room = l.makeRoom(own)
	case l.open.Load() >= int64(limits.MaxConnections):
		l.noteCrowd()
		room = l.makeRoom(l.conns)
	}
	l.mu.Unlock()
	if !room {
		return nil
	}
	return l.Wrap(inner)
}

// add counts a connection. The caller holds mu, as for all that follows.
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

// remove undoes an add, once.
func (l *Listener) remove(c *Conn) {
	if _, counted := l.conns[c]; !counted {
		return
	}
	l.open.Add(-1)
	delete(l.conns, c)
	own := l.clients[c.client]
	if delete(own, c); len(own) == 0 {
		delete(l.clients, c.client)
	}
}

// A connection's idle is 0 while nobody waits, givenUp when it was closed for another, and else since when a whole head
// is waited for, in Unix nanoseconds. The last bit of these is set for a client that has proven nothing: it hasn't sent
// a request on this connection yet, or has begun one and not ended its head.
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

// looked bounds the connections that are looked at to find one that waits. Ranging over a map begins anywhere, so this
// is a sample.
const looked = 256

// makeRoom closes one of the connections, if some of them wait for a request: of those in the sample one of the client
// that has the most, of these one that has proven nothing, and of these the one that has waited longest.
func (l *Listener) makeRoom(among map[*Conn]struct{}) bool {
	var victim *Conn
	var since int64
	n := 0
	for c := range among {
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
	l.remove(victim)
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

// has is the number of connections of a connection's client; one that may have any number counts as if it had this one
// only.
func (l *Listener) has(c *Conn) int { return max(len(l.clients[c.client]), 1) }

// crowd is what is known of there being more connections than there may be.
type crowd struct {
	at      time.Time // when one last had to be refused, or closed for another
	counted time.Time // when the largest client was looked for
	warned  time.Time
	largest netip.Prefix
	holds   int // connections of that client
}

// How long the listener counts as crowded after it had to refuse or close a connection, and how often the largest
// client is looked for meanwhile.
const (
	crowdedFor = time.Minute
	countEvery = time.Second
)

// noteCrowd notes that there are more connections than there may be.
func (l *Listener) noteCrowd() {
	k := &l.crowd
	k.at = time.Now()
	if k.at.Sub(k.counted) >= countEvery {
		k.counted = k.at
		k.largest, k.holds = l.largest()
	}
	if k.at.Sub(k.warned) < crowdedFor {
		return
	}
	k.warned = k.at
	l.cfg.Log.Warn("more client connections than there may be: idle ones are closed for new ones, others are refused",
		"connections", l.Connections(), "largest_client", k.largest.String(), "its_connections", k.holds)
}

// largest gives the client that has the most connections.
func (l *Listener) largest() (client netip.Prefix, n int) {
	for c, own := range l.clients {
		if len(own) > n {
			client, n = c, len(own)
		}
	}
	return client, n
}

// Crowded reports whether connections had to be refused, or closed for others, within the last minute, and gives the
// client that had the most when it was last noticed, with their number. The client isn't valid if none of those there
// has a share.
func (l *Listener) Crowded() (client netip.Prefix, connections int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := &l.crowd
	if k.at.IsZero() || time.Since(k.at) > crowdedFor {
		return netip.Prefix{}, 0, false
	}
	return k.largest, k.holds, true
}
