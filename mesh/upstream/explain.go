package upstream

import (
	"fmt"
	"strings"

	"millrace/mesh"
)

// Foresee says, in words, which targets of an upstream a request would now be sent to. It returns "" if this node
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
	found, hashed := s.eligibleTargets(canary), s.cfg.Balance.Hash != ""
	key, keyed := hashKey(s.cfg.Balance, req)
	switch {
	case len(found) == 0:
		return kind + "none: all are full or away"
	case hashed && keyed:
		return kind + found[found.byHash(key)].name() + " by " + s.cfg.Balance.String()
	case len(found) == 1:
		return kind + found[0].name()
	case hashed:
		return fmt.Sprintf("%sany by weight: the request has nothing for %s", kind, s.cfg.Balance)
	}
	return kind + "the one of two drawn by weight that has less to do"
}

// eligibleTargets returns the targets that a request may now be sent to.
func (s *state) eligibleTargets(canary bool) candidates {
	from, to := s.eligibleRange()
	for which := from; which <= to; which++ {
		if found, _ := s.candidates(nil, &selection{}, which, canary); len(found) > 0 {
			return found
		}
	}
	return nil
}

// name returns the target's name as in its status.
func (c *candidate) name() string {
	return TargetStatus{URL: string(c.target.url), Address: addrText(c.target.addr)}.Name()
}

// explainKind says which kind of target it would be, as far as that is certain.
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
