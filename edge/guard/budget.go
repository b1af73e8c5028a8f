package guard

import (
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes that all connections hold together. It is safe for concurrent use.
type Budget struct {
	max  atomic.Int64
	used atomic.Int64
}

// NewBudget makes a budget of so many bytes.
func NewBudget(limit int64) *Budget {
	b := &Budget{}
	b.SetMax(limit)
	return b
}

// SetMax changes the limit. What is held beyond it stays held.
func (b *Budget) SetMax(limit int64) { b.max.Store(limit) }

// Used is the number of bytes held at this moment.
func (b *Budget) Used() int64 { return b.used.Load() }

// Take holds n more bytes, if there is room for all of them.
func (b *Budget) Take(n int) bool {
	if b.used.Add(int64(n)) > b.max.Load() {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// Give returns what Take held.
func (b *Budget) Give(n int) { b.used.Add(-int64(n)) }

// account is what one connection holds of a budget. Close may come from another goroutine than the rest.
type account struct {
	budget *Budget
	mu     sync.Mutex
	held   int
	closed bool
}

func (a *account) take(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || !a.budget.Take(n) {
		return false
	}
	a.held += n
	return true
}

func (a *account) give(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = min(n, a.held)
	a.held -= n
	a.budget.Give(n)
}

// close gives everything back, and lets nothing more be taken.
func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.budget.Give(a.held)
	a.held = 0
}
