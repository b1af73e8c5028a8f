package cache

import (
	"encoding/json"
	"net/netip"
	"time"

	"millrace/edge/exchange"
	"millrace/mesh"
)

// homeCallVersion is the version of homeCall and of its reply, whose fields home.go names. A node that gets another
// version answers that the asking node must fetch for itself.
const homeCallVersion = 1

// homeCall is what a key's home must know beside the client's request. It is sent as JSON in the field Millrace-Route.
type homeCall struct {
	Version     int        `json:"v"`
	Route       string     `json:"route"` // id
	Fingerprint string     `json:"mark"`  // fingerprint of the route: the home's must be the same
	Scheme      string     `json:"scheme"`
	RequestID   string     `json:"id"`
	Peer        netip.Addr `json:"peer"`
	Trusted     bool       `json:"trusted"`         // Peer is a trusted proxy
	Newer       int64      `json:"newer,omitempty"` // Unix milliseconds: only a response received later will do
}

// homeCall returns what the home must know of the exchange.
func (c *fetcher) homeCall(x *exchange.Exchange) homeCall {
	call := homeCall{
		Version: homeCallVersion, Route: c.route.ID, Fingerprint: c.fingerprint, Scheme: x.Scheme,
		RequestID: x.ID, Peer: x.Peer, Trusted: x.Trusted,
	}
	if newer := refreshes(x); !newer.IsZero() {
		call.Newer = newer.UnixMilli()
	}
	return call
}

// String returns the call as it is sent.
func (h homeCall) String() string {
	b, err := json.Marshal(h)
	if err != nil { // plain values always marshal
		return "{}"
	}
	return string(b)
}

// readHomeCall parses a call. ok is false if it isn't one of this version.
func readHomeCall(s string) (call homeCall, ok bool) {
	if json.Unmarshal([]byte(s), &call) != nil || call.Version != homeCallVersion {
		return homeCall{}, false
	}
	return call, true
}

// homeExchange returns the exchange of another node's request. The policy is nil if this node doesn't have the same
// route.
func (s *Cache) homeExchange(req *mesh.Request) (*exchange.Exchange, *Policy) {
	call, ok := readHomeCall(req.Route)
	if !ok {
		return nil, nil
	}
	x := exchange.For(s.cfg.Settings(), call.Peer, call.Scheme, req.Method, req.Host, req.Header)
	x.Target, x.Body, x.Length = req.Target, req.Body, int64(len(req.Body))
	x.ID, x.Trusted = call.RequestID, call.Trusted
	scratch := scratchOf(x)
	scratch.home = true
	if call.Newer > 0 {
		scratch.refreshing = time.UnixMilli(call.Newer)
	}
	x.Header.Add("Host", req.Host)
	if x.AcceptTarget() != nil { // the asking node has already accepted the rest of it
		return nil, nil
	}
	x.Route = x.Settings.Find(x)
	c := Of(x.Route)
	if c == nil || x.Route.ID != call.Route || c.fingerprint != call.Fingerprint {
		return nil, nil
	}
	return x, c
}
