package upstream

import (
	"fmt"
	"strings"

	"millrace/mesh"
)

// Foresee says which targets of an upstream a request would be sent to at this moment, for people; "" if this node
// doesn't serve the upstream.
func (s *Set) Foresee(name string, req *mesh.Request) string {
	s.mu.Lock()
	u := s.members[name]
	s.mu.Unlock()
	if u == nil {
		return ""
	}
	return u.state.Load().explainNext(req)
}

func (s *state) explainNext(req *mesh.Request) string {
	kind, canary := s.explainKind(req)
	some, hashed := s.eligibleTargets(canary), s.cfg.Balance.Hash != ""
	key, keyed := hashKey(s.cfg.Balance, req)
	switch {
	case len(some) == 0:
		return kind + "none: all are full or away"
	case hashed && keyed:
		return kind + some[some.byHash(key)].name() + " by " + s.cfg.Balance.String()
	case len(some) == 1:
		return kind + some[0].name()
	case hashed:
		return fmt.Sprintf("%sany by weight: the request has nothing for %s", kind, s.cfg.Balance)
	}
	return kind + "the one of two drawn by weight that has less to do"
}

// open lists the targets that a request may be sent to at this moment.
func (s *state) eligibleTargets(canary bool) candidates {
	from, to := s.eligibleRange()
	for which := from; which <= to; which++ {
		if some, _ := s.candidates(nil, &selection{}, which, canary); len(some) > 0 {
			return some
		}
	}
	return nil
}

// name is how status names the target.
func (c *candidate) name() string {
	return TargetStatus{URL: string(c.target.url), Address: addrText(c.target.addr)}.Name()
}

// foreseeKind tells what kind of target it would be, as far as that is certain.
func (s *state) explainKind(req *mesh.Request) (kind string, canary bool) {
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
