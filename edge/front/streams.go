package front

import "sync"

// streams holds the responses that may never end by themselves: sockets and event streams. Shutdown ends them.
type streams struct {
	mu     sync.Mutex // guards what follows
	next   int
	end    map[int]func()
	closed bool
}

// enter adds a stream, which end ends, until leave is called. ok is false if close was called before: the stream must
// end at once.
func (s *streams) enter(end func()) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return func() {}, false
	}
	if s.end == nil {
		s.end = map[int]func(){}
	}
	s.next++
	id := s.next
	s.end[id] = end
	return func() { s.leave(id) }, true
}

func (s *streams) leave(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.end, id)
}

// close ends all streams. From then on enter fails.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	all := make([]func(), 0, len(s.end))
	for _, end := range s.end {
		all = append(all, end)
	}
	s.mu.Unlock()
	for _, end := range all {
		go end() // writing to a slow client may block
	}
}
