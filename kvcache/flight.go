package kvcache

import (
	"context"
	"sync"
	"time"
)

// Flights are the fetches that run, by key, so that equal ones wait for one. T is what a fetch leaves for those who
// waited. The zero value is ready; it is safe for concurrent use.
type Flights[T any] struct {
	mu      sync.Mutex
	running map[string]*Flight[T]
}

// Flight is one fetch.
type Flight[T any] struct {
	all     *Flights[T]
	key     string
	done    chan struct{} // closed by Finish
	result  T
	waiting int // guarded by all.mu
}

// maxFlights bounds the fetches that others may wait for. Beyond it each is on its own.
const maxFlights = 1 << 16

// Join gives the running fetch of a key, or begins one: then leads is true, and the caller must Finish it.
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

// Len is the number of fetches that run.
func (f *Flights[T]) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.running)
}

// Finish gives the result to those who wait, and lets the next one of the key begin. It may be called again, which does
// nothing.
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

// Wait waits for the result, at most so long.
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
