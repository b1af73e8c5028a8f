package mesh

import "sync/atomic"

// Budget bounds extra tries to a share of the requests. When all members or targets fail or are slow, more tries would
// overload what still works. Each request earns part of a try, and savings are bounded (as in Finagle's RetryBudget).
// The zero value has no savings. Safe for concurrent use.
type Budget struct {
	saved  atomic.Int64 // hundredths of a try
	spent  atomic.Uint64
	denied atomic.Uint64
}

// A try costs tryCost. A budget starts with maxSavedTries and saves up to that, so that a few failures among few
// requests are repeated.
const (
	tryCost       = 100
	maxSavedTries = 10
)

// NewBudget returns a budget with full savings.
func NewBudget() *Budget {
	b := &Budget{}
	b.saved.Store(maxSavedTries * tryCost)
	return b
}

// Earn adds what one request earns: percent of a try.
func (b *Budget) Earn(percent int) {
	if saved := b.saved.Load(); saved < maxSavedTries*tryCost { // a lost race loses part of a try
		b.saved.CompareAndSwap(saved, min(saved+int64(percent), maxSavedTries*tryCost))
	}
}

// Has reports whether Spend would now succeed. With a percent of 0 it never does.
func (b *Budget) Has(percent int) bool { return percent > 0 && b.saved.Load() >= tryCost }

// Spend pays for one more try and reports whether it could. With a percent of 0 it never can.
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

// Refund returns the price of a try that wasn't made.
func (b *Budget) Refund() {
	b.saved.Add(tryCost)
	b.spent.Add(^uint64(0))
}

// Spent returns how many tries were paid for, and how many were denied.
func (b *Budget) Spent() (paid, denied uint64) { return b.spent.Load(), b.denied.Load() }
