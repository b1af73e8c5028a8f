package edgetest

import "runtime"

// Heap is the number of bytes that the heap holds, with those that the garbage collector has yet to free.
func Heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // G115: no heap has 8 EiB
}
