package exchange

import "sync/atomic"

// maxLocals bounds the number of Locals of this process.
const maxLocals = 4

// Local is a key under which a package stores a *T with each exchange. This package doesn't know the type T. Make one
// for each package, with NewLocal.
type Local[T any] struct{ index int32 }

// locals is how many Locals there are, and resets empties the value of each for another exchange; nil if it is dropped.
// Package variables of several packages add to them, one after another, before anything else runs.
var (
	locals atomic.Int32
	resets [maxLocals]func(v any)
)

// NewLocal returns a new key. Exchange.Reset calls reset with a value that the exchange has, and keeps it for the
// connection's next exchange; with a nil reset it drops the value. Use NewLocal for package variables only: it panics
// when there are more than maxLocals.
func NewLocal[T any](reset func(*T)) Local[T] {
	n := locals.Add(1) - 1
	if n >= maxLocals {
		panic("too many locals")
	}
	if reset != nil {
		resets[n] = func(v any) { reset(v.(*T)) }
	}
	return Local[T]{n}
}

// Of returns the value that the exchange has, or nil.
func (l Local[T]) Of(x *Exchange) *T {
	v, _ := x.locals[l.index].(*T) // nothing else has this index
	return v
}

// Set stores v with the exchange.
func (l Local[T]) Set(x *Exchange, v *T) { x.locals[l.index] = v }

// Make returns the value that the exchange has. If it has none, Make stores a zero T first.
func (l Local[T]) Make(x *Exchange) *T {
	v := l.Of(x)
	if v == nil {
		v = new(T)
		l.Set(x, v)
	}
	return v
}
