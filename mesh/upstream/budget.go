package upstream

import "sync/atomic"

// budget bounds the extra tries of an upstream to a share of its requests: when all targets fail, tries on top would bury what is left of them. Each
// request earns a part of a try, and what is saved up is bounded (Finagle's RetryBudget). Safe for concurrent use.
type budget struct {
	saved  atomic.Int64 // hundredths of a try
	spent  atomic.Uint64
	denied atomic.Uint64
}

// aTry is the price of one. The budget starts with, and saves up to, mostTries of them, so that a few failures among few requests are repeated.
const (
	aTry      = 100
	mostTries = 10
)

func newBudget() *budget {
	b := &budget{}
	b.saved.Store(mostTries * aTry)
	return b
}

// earn is for one request: percent of a try.
func (b *budget) earn(percent int) {
	if saved := b.saved.Load(); saved < mostTries*aTry { // who races here loses a part of a try
		b.saved.CompareAndSwap(saved, min(saved+int64(percent), mostTries*aTry))
	}
}

// spend pays for one more try.
func (b *budget) spend() bool {
	if b.saved.Add(-aTry) < 0 {
		b.saved.Add(aTry)
		b.denied.Add(1)
		return false
	}
	b.spent.Add(1)
	return true
}
