package front

import "sync"

// streams are the responses that end only when somebody ends them: sockets and event streams. A node that goes away
// ends them.
type streams struct {
	mu     sync.Mutex
	next   int
	end    map[int]func()
	closed bool
}

// enter notes how a stream is ended. Not ok means that the node goes away already.
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

// close ends all of them and lets no more begin.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	all := make([]func(), 0, len(s.end))
	for _, end := range s.end {
		all = append(all, end)
	}
	s.mu.Unlock()
	for _, end := range all {
		go end() // it may wait for a slow client
	}
}
