package edgetest

import (
	"context"
	"strings"
	"sync"

	"millrace/mesh"
)

// Answer is what the origin says to the nth request of a path, from 1.
type Answer func(r *mesh.Request, n int) *mesh.Response

// Origin answers as it is told, and counts.
type Origin struct {
	mu       sync.Mutex
	answers  map[string]Answer
	counts   map[string]int // by path
	requests map[string]*mesh.Request
}

// Handle answers as a service does.
func (o *Origin) Handle(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
	path, _, _ := strings.Cut(r.Target, "?")
	o.mu.Lock()
	o.counts[path]++
	n, f := o.counts[path], o.answers[path]
	o.requests[path] = r
	o.mu.Unlock()
	if f == nil {
		return &mesh.Response{Status: 404, Header: Fields("Cache-Control", "no-store"), Body: []byte("no such path")},
			nil
	}
	return f(r, n), nil
}

// On sets what the origin answers to a path.
func (o *Origin) On(path string, f Answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[path] = f
}

// Count is how many requests of the path came.
func (o *Origin) Count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[path]
}

// Last is the newest request of the path.
func (o *Origin) Last(path string) *mesh.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[path]
}
