package guard

import (
	"net"
	"net/netip"
	"time"
)

// A Listener has a bounded number of connections. One client must not be able to hold all of them, and connections on which nothing happens must not keep
// others out: so a client has a share at most, and when the listener is full, idle connections are closed for new ones.

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

// givenUp is what Conn.idle holds when the connection was closed for another.
const givenUp = -1

// looked bounds the connections that are looked at to find an idle one. Ranging over a map begins anywhere, so this is a sample.
const looked = 256

// makeRoom closes an idle connection: of those in the sample one of the client that has the most, and of these the one that has been idle longest.
func (l *Listener) makeRoom() bool {
	var victim *Conn
	var since int64
	n := 0
	for c := range l.conns {
		if n++; n > looked {
			break
		}
		idle := c.idle.Load()
		if idle <= 0 {
			continue
		}
		if victim == nil || l.has(c) > l.has(victim) || (l.has(c) == l.has(victim) && idle < since) {
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
