package edge

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"millrace/edge/guard"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// quick answers a request as soon as its head is read, if a fresh response lies in memory and nothing has to be asked
// or waited for. That is what most requests of a busy cache are, and going round by fasthttp would cost as much again
// as all else. Anything else it leaves to handle, with the exchange that it has made.
func (s *Server) quick(conn *guard.Conn) (done bool) {
	set := s.settings.Load()
	r := conn.Request()
	if !set.caches || r.Refusal != nil || r.Length != 0 || r.Method != http.MethodGet || r.Hasty {
		return false
	}
	x, ok := conn.Scratch.(*Exchange)
	if !ok {
		x = &Exchange{}
	} else {
		x.empty()
	}
	x.read(conn)
	conn.Scratch = nil // unless nobody keeps it
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("request handler panicked", "request_id", x.ID, "panic", fmt.Sprint(p),
				"stack", string(debug.Stack()))
			x.kept = nil
			r.Header = x.Header             // of which fields may be gone
			conn.Pending, done = nil, false // handle begins again
		}
	}()
	s.enter(x)
	conn.Pending = x
	c := x.route.cached
	if c == nil || c.passes(x) != "" {
		return false
	}
	x.Client = clientOf(x)
	room := x.room()
	l := &room.found
	c.lookInto(x, l, x.Started) // which is now
	defer l.release()
	if !l.hit || l.use(x) != httpcache.UseFresh || l.rec.Chunks > 0 || c.early(l) {
		return false
	}
	resp := &room.response
	if !c.serveInto(x, l, httpcache.Status{Hit: true}, resp) {
		return false
	}
	if lim := x.route.limited; resp.Stream != nil || (lim != nil && !lim.quickly(x)) {
		x.kept.view.Release()
		x.kept = nil
		return false
	}
	s.sendQuick(conn, x, resp)
	if !set.AccessLog { // a log handler may keep strings of the request
		conn.Scratch = x
		return true
	}
	conn.Keep()
	return true
}

// empty makes the exchange as new, and keeps its memory.
func (x *Exchange) empty() {
	room := x.cache
	if *x = (Exchange{}); room != nil {
		*room = cacheRoom{}
		x.cache = room
	}
}

// sendQuick does what the policies around a hit do, and writes it.
func (s *Server) sendQuick(conn *guard.Conn, x *Exchange, resp *mesh.Response) {
	conn.Pending = nil
	x.ID = x.identity(&x.cache.id)
	resp.Header = x.cache.fields[:0]
	resp.Header.Add("X-Request-Id", x.ID)
	if lim := x.route.limited; lim != nil {
		lim.settle(x, resp, nil)
		x.limitFields(&resp.Header)
	}
	if s.draining.Load() {
		conn.End()
	}
	conn.Keepable()
	s.sendKept(conn, x, resp)
	x.route.cached.hit(x, resp)
	s.observed(x, resp, int64(len(resp.Body)), nil, time.Since(x.Started))
}

// hit counts a response that was served without asking anybody.
func (c *cached) hit(_ *Exchange, resp *mesh.Response) {
	c.stats.hits.Add(1)
	c.stats.hitBytes.Add(uint64(max(resp.Length, 0)))
}
