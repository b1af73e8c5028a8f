package exchange

import "sync/atomic"

// maxSlots bounds the policies that keep something with an exchange.
const maxSlots = 4

// Slot is where a policy keeps what it knows of each exchange, without the core's knowing its type. Make one for each
// package, with NewSlot.
type Slot[T any] struct{ index int32 }

// resetter is what a slot may hold that is used again for the connection's next exchange.
type resetter interface{ Reset() }

var slots atomic.Int32 //nolint:gochecknoglobals // numbers the slots, as init order would

// NewSlot makes a slot. It is for package variables: there are few.
func NewSlot[T any]() Slot[T] {
	n := slots.Add(1) - 1
	if n >= maxSlots {
		panic("too many slots")
	}
	return Slot[T]{n}
}

// Of gives what the exchange has in the slot; nil if nothing.
func (s Slot[T]) Of(x *Exchange) *T {
	v, _ := x.slots[s.index].(*T) // a slot holds nothing else
	return v
}

// Set puts v into the slot.
func (s Slot[T]) Set(x *Exchange, v *T) { x.slots[s.index] = v }

// Make gives what the exchange has in the slot, and a zero T if it has nothing yet.
func (s Slot[T]) Make(x *Exchange) *T {
	v := s.Of(x)
	if v == nil {
		v = new(T)
		s.Set(x, v)
	}
	return v
}
