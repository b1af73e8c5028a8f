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

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	b := &Budget{}
	b.SetMax(limit)
	return b
}

// SetMax changes the limit. Bytes that are held beyond it remain held.
func (b *Budget) SetMax(limit int64) { b.max.Store(limit) }

// Used returns the number of bytes held at this moment.
func (b *Budget) Used() int64 { return b.used.Load() }

// Take holds n more bytes, if there are as many left, and reports whether it did.
func (b *Budget) Take(n int) bool {
	if b.used.Add(int64(n)) > b.max.Load() {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// Give returns n bytes that Take has held.
func (b *Budget) Give(n int) { b.used.Add(-int64(n)) }

// account counts the bytes of a budget that one connection holds. It is safe for concurrent use.
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

// close returns all bytes. Further calls of take fail.
func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.budget.Give(a.held)
	a.held = 0
}
