package ratelimit

import (
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/limit"
)

// Grants are what one exchange got from the limits of its route. The zero value is ready.
type Grants struct {
	list []grant
	room [1]grant
}

var slot = exchange.NewSlot[Grants]() //nolint:gochecknoglobals // its number never changes

// Attach lets g hold the grants of an exchange: in the memory of a larger value, say, so that none of its own is
// needed.
func Attach(x *exchange.Exchange, g *Grants) { slot.Set(x, g) }

// Reset makes the grants ready for another exchange.
func (g *Grants) Reset() { *g = Grants{} }

func grantsOf(x *exchange.Exchange) *Grants { return slot.Make(x) }

// grant is what an exchange got from one limit.
type grant struct {
	limit    *routeLimit
	key      limit.Key
	decision limit.Decision
	at       time.Time // of the decision
}

// giveBack gives back what the limits have given.
func (g *Grants) giveBack() {
	now := time.Now()
	for i := range g.list {
		g.list[i].back(now)
	}
	g.list = g.list[:0]
}

func (p *grant) back(now time.Time) {
	if p.limit.rule.Occupies() {
		p.limit.rule.Leave(p.key, p.limit.cost())
		return
	}
	p.limit.rule.Refund(now, p.key, p.decision, p.limit.cost())
}
