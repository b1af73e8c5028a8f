package mesh

import "sync/atomic"

// Budget bounds the extra tries of requests to a share of them: when all that answers fails or is slow, tries on top
// would bury what is left of it. Each request earns a part of a try, and what is saved up is bounded (Finagle's
// RetryBudget). The zero value has nothing saved; safe for concurrent use.
type Budget struct {
	saved  atomic.Int64 // hundredths of a try
	spent  atomic.Uint64
	denied atomic.Uint64
}

// aTry is the price of one. A budget starts with, and saves up to, mostTries of them, so that a few failures among few
// requests are repeated.
const (
	tryCost       = 100
	maxSavedTries = 10
)

// NewBudget makes one that has saved all that it may.
func NewBudget() *Budget {
	b := &Budget{}
	b.saved.Store(maxSavedTries * tryCost)
	return b
}

// Earn is for one request: percent of a try.
func (b *Budget) Earn(percent int) {
	if saved := b.saved.Load(); saved < maxSavedTries*tryCost { // who races here loses a part of a try
		b.saved.CompareAndSwap(saved, min(saved+int64(percent), maxSavedTries*tryCost))
	}
}

// Has reports whether it would pay for one more try at this moment. With no percent to earn it never does.
func (b *Budget) Has(percent int) bool { return percent > 0 && b.saved.Load() >= tryCost }

// Spend pays for one more try, unless nothing may be earned at all.
func (b *Budget) Spend(percent int) bool {
	if percent == 0 || b.saved.Add(-tryCost) < 0 {
		if percent > 0 {
			b.saved.Add(tryCost)
		}
		b.denied.Add(1)
		return false
	}
	b.spent.Add(1)
	return true
}

// Refund takes back a try that wasn't made.
func (b *Budget) Refund() {
	b.saved.Add(tryCost)
	b.spent.Add(^uint64(0))
}

// Spent is how many tries it has paid for, and how many it hasn't.
func (b *Budget) Spent() (paid, denied uint64) { return b.spent.Load(), b.denied.Load() }
