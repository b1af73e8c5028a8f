package ratelimit

import (
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/limit"
)

// Grants are what the limits of a route granted to one exchange. The zero value is ready.
type Grants struct {
	list    []grant
	scratch [1]grant // the memory of list while it has one element
}

var local = exchange.NewLocal((*Grants).reset)

// Attach makes g the Grants of an exchange. With g in the same allocation as the exchange, it needs no memory of its
// own. Without Attach, Grants are allocated when they are needed.
func Attach(x *exchange.Exchange, g *Grants) { local.Set(x, g) }

// reset empties the grants, for another exchange.
func (g *Grants) reset() { *g = Grants{} }

func grantsOf(x *exchange.Exchange) *Grants { return local.Make(x) }

// grant is what one limit granted to an exchange: permits, or a slot.
type grant struct {
	limit    *routeLimit
	key      limit.Key
	decision limit.Decision
	at       time.Time // of the decision
	returned bool      // it has been given back
}

// giveBackAll gives back the grants that haven't been given back yet.
func (g *Grants) giveBackAll() {
	now := time.Now()
	for i := range g.list {
		if !g.list[i].returned {
			g.list[i].giveBack(now)
		}
	}
	g.list = g.list[:0]
}

// giveBack frees the slot, or refunds the permits as if they had not been taken.
func (gr *grant) giveBack(now time.Time) {
	gr.returned = true
	if gr.limit.rule.Occupies() {
		gr.limit.rule.Leave(gr.key, gr.limit.cost())
		return
	}
	gr.limit.rule.Refund(now, gr.key, gr.decision, gr.limit.cost())
}
