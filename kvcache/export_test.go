package kvcache

import "time"

// NewMemory makes a first tier with the test's clock.
func NewMemory(maxBytes int64, clock func() time.Time) *Memory {
	return &Memory{newMemory(maxBytes, clock)}
}

// Memory is the first tier.
type Memory struct{ m *memory }

// Put stores an entry.
func (m *Memory) Put(e *Entry) bool { return m.m.put(e.Append(nil)) }

// Get finds an entry.
func (m *Memory) Get(key []byte, v *View) bool { return m.m.get(key, v) }

// Drop removes an entry.
func (m *Memory) Drop(key []byte) { m.m.drop(key) }

// Used returns what counts against the limit.
func (m *Memory) Used() (bytes int64, entries int) { return m.m.used() }

// Capacity returns the limit.
func (m *Memory) Capacity() int64 { return m.m.capacity() }
