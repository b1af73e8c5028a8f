package embedded

import (
	"context"
	"strings"
	"sync"
	"time"

	"millrace/edge"
	"millrace/embedded/natsserver"
	"millrace/kvcache"
	"millrace/node"
)

// leafOf returns how the server joins its hub; nil if the node is no leaf.
func leafOf(m *node.Mesh) *natsserver.Leaf {
	if m.Leaf == nil {
		return nil
	}
	out := &natsserver.Leaf{Token: m.Leaf.Token}
	for _, u := range m.Leaf.URL {
		out.Hub = append(out.Hub, string(u))
	}
	return out
}

// leafs returns where leafs may join the server; nil if they may not.
func (s *natsServer) leafs(ctx context.Context) *natsserver.Leafs {
	l := s.cfg.Mesh.Leafs
	if l == nil {
		return nil
	}
	if !l.Listen.Loopback() {
		s.log.WarnContext(ctx, "leafs join beyond loopback without TLS: requests and the token travel in clear; let a "+
			"VPN or a tunnel carry them", "address", string(l.Listen))
	}
	return &natsserver.Leafs{
		Listen: string(l.Listen), Token: l.Token, Advertise: l.Advertise, Access: leafAccess(s.cfg),
	}
}

// leafBuckets are the buckets of the mesh that leafs read and write: cached responses, members' values, purges and
// limits.
var leafBuckets = []string{"cache", "values", "purges", "limits"}

// leafAccess is what leafs may do in the mesh. natsserver/DESIGN.md says why.
func leafAccess(cfg *node.Config) natsserver.Access {
	a := natsserver.Access{
		Both: []string{
			"_LEAF_.>", "stream.>", "millrace.members", "millrace.leaving", "millrace.gone", "millrace.limit",
			"millrace.cache.invalidate", "site.ask",
		},
		Publish: []string{
			"_NODE_.>", "http.>", "upstream.>", "cancel.>", "event.>", edge.TailSubject, "blob.get",
		},
		Read: []string{kvcache.BucketName("", "blobs"), "KV_" + kvcache.BucketName("", "sites")}, // they change no site
	}
	for _, bucket := range leafBuckets {
		name := kvcache.BucketName("", bucket)
		a.Publish = append(a.Publish, "$KV."+name+".>")
		a.Read = append(a.Read, "KV_"+name)
	}
	a.Publish = append(a.Publish, plainSubjects(cfg.Routes)...)
	for _, to := range cfg.Mesh.Leafs.Serves {
		subject := strings.Replace(to.String(), "service:", "http:", 1)
		subject = strings.Replace(subject, ":", ".", 1)
		a.Both = append(a.Both, subject, subject+".stream", "cancel."+subject)
	}
	for _, member := range cfg.Mesh.Leafs.Members {
		a.Both = append(a.Both, "_INBOX_"+member+".>")
	}
	return a
}

// hubWatch remembers since when a leaf has been cut off. Its zero value is ready; it is safe for concurrent use.
type hubWatch struct {
	mu   sync.Mutex // guards lost
	lost time.Time  // zero while the hub is connected
}

// away returns for how long the hub has been away; 0 if it is connected.
func (w *hubWatch) away(connected bool) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case connected:
		w.lost = time.Time{}
		return 0
	case w.lost.IsZero():
		w.lost = time.Now()
	}
	return max(time.Since(w.lost), 1)
}

// hubCondition reports that a leaf is cut off, and what it can't do until it isn't.
func (s *natsServer) hubCondition(f *conditionList) {
	connected := s.server.Hub().Connected
	away := s.hub.away(connected)
	if connected {
		s.joined.Store(true)
		return
	}
	f.add("the hub is away, for "+away.Round(time.Second).String()+" at least (mesh.leaf.url): this node serves its "+
		"sites and what is cached, but hears of no purge, publish or rollback, reaches only its own services and "+
		"upstreams, and limits do what store_away says; it joins again by itself",
		!s.joined.Load() && s.life.starting())
}
