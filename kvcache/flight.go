package kvcache

import (
	"context"
	"sync"
	"time"
)

// Flights holds the running fetches by key, so that equal requests wait for one of them. T is the result of a fetch.
// The zero value is ready to use. It is safe for concurrent use.
type Flights[T any] struct {
	mu      sync.Mutex
	running map[string]*Flight[T]
}

// Flight is one running fetch.
type Flight[T any] struct {
	all     *Flights[T]
	key     string
	done    chan struct{} // closed by Finish
	result  T
	waiting int // guarded by all.mu
}

// maxFlights is how many fetches others may wait for. Beyond it each caller fetches for itself.
const maxFlights = 1 << 16

// Join returns the running fetch of a key, or starts one. In that case leads is true, and the caller must call Finish.
func (f *Flights[T]) Join(key string) (flight *Flight[T], leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if running := f.running[key]; running != nil {
		running.waiting++
		return running, false
	}
	flight = &Flight[T]{all: f, key: key, done: make(chan struct{})}
	if f.running == nil {
		f.running = map[string]*Flight[T]{}
	}
	if len(f.running) < maxFlights {
		f.running[key] = flight
	}
	return flight, true
}

// Len returns the number of running fetches.
func (f *Flights[T]) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.running)
}

// Finish passes the result to all waiting callers. The next caller of Join for the key starts a new fetch. Further
// calls do nothing.
func (f *Flight[T]) Finish(result T) {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	select {
	case <-f.done:
		return
	default:
	}
	f.result = result
	close(f.done)
	if f.all.running[f.key] == f {
		delete(f.all.running, f.key)
	}
}

// Wait waits for the result, at most for that time.
func (f *Flight[T]) Wait(ctx context.Context, most time.Duration) (result T, ok bool) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.result, true
	case <-timer.C:
	case <-ctx.Done():
	}
	return result, false
}
