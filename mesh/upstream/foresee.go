package upstream

import (
	"fmt"
	"strings"

	"millrace/mesh"
)

// Foresee says which targets of an upstream a request would be sent to at this moment, for people; "" if this node doesn't serve the upstream.
func (s *Set) Foresee(name string, req *mesh.Request) string {
	s.mu.Lock()
	u := s.members[name]
	s.mu.Unlock()
	if u == nil {
		return ""
	}
	return u.state.Load().foresee(req)
}

func (s *state) foresee(req *mesh.Request) string {
	kind, canary := s.foreseeKind(req)
	if s.cfg.Balance.Hash == "" {
		return kind + "the one of two drawn by weight that has less to do"
	}
	key, keyed := hashKey(s.cfg.Balance, req)
	if !keyed {
		return fmt.Sprintf("%sany by weight: the request has nothing for %s", kind, s.cfg.Balance)
	}
	from, to := s.choices()
	for which := from; which <= to; which++ {
		if some, _ := s.candidates(nil, &wish{}, which, canary); len(some) > 0 {
			t := some[some.byHash(key)].target
			return kind + TargetStatus{URL: string(t.url), Address: text(t.addr)}.Name() + " by " + s.cfg.Balance.String()
		}
	}
	return kind + "none: all are full or away"
}

// foreseeKind tells what kind of target it would be, as far as that is certain.
func (s *state) foreseeKind(req *mesh.Request) (kind string, canary bool) {
	c := s.cfg.Canary
	if c == nil {
		return "", false
	}
	switch forced := strings.ToLower(strings.TrimSpace(req.Header.Get(c.Header))); {
	case c.Header != "" && forced == "always":
		return "a canary, ", true
	case (c.Header != "" && forced == "never") || c.Percent == 0:
		return "no canary, ", false
	case c.Percent == 100:
		return "a canary, ", true
	}
	return fmt.Sprintf("a canary for %d of 100, else ", c.Percent), false
}
