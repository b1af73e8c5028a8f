package exchange

import "sync/atomic"

// maxLocals bounds the number of Locals of this process.
const maxLocals = 6

// Local is a key under which a package stores a *T with each exchange. This package doesn't know the type T. Make one
// for each package, with NewLocal.
type Local[T any] struct{ index int32 }

// resetter is a value that Exchange.Reset keeps for the connection's next exchange.
type resetter interface{ Reset() }

var locals atomic.Int32 // how many Locals there are; package variables of several packages are numbered from it

// NewLocal returns a new key. Use it for package variables only: it panics when there are more than maxLocals.
func NewLocal[T any]() Local[T] {
	n := locals.Add(1) - 1
	if n >= maxLocals {
		panic("too many locals")
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
