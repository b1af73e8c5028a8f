package mesh

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Emit publishes an event if anybody listens to its subject: event.http.ROUTE.CLASS for a response, with CLASS 2xx to
// 5xx. build is called only then; its result is one JSON object. The subject consists of names that pass
// node.CheckName and comes without the mesh's prefix. Events are for observers: none is waited for or repeated.
// It reports whether somebody may listen.
func (c *Conn) Emit(subject string, build func() []byte) bool {
	if c.nc == nil {
		return false
	}
	full := c.cfg.Prefix + subject
	switch {
	case c.cfg.Interest == nil:
		c.silent.emit(full, build)
		return true
	case c.cfg.Interest.Interested(full):
		_ = c.nc.Publish(full, build()) // an event lost is the price of never waiting
		return true
	}
	return false
}

// silence remembers the subjects that nobody listens to, on a NATS server whose interest can't be asked. An event goes
// out with a reply subject that names it; when the server answers "no responders" the subject is silent for a second.
type silentSubjects struct {
	nc     *nats.Conn
	prefix string // of the reply subjects

	mu    sync.RWMutex
	until map[string]time.Time // silent subjects
}

const (
	silentFor         = time.Second
	maxSilentSubjects = 4096 // subjects remembered; beyond that the memory starts over
)

func newSilentSubjects(nc *nats.Conn, inbox string) (*silentSubjects, error) {
	s := &silentSubjects{nc: nc, prefix: inbox + ".p.", until: map[string]time.Time{}}
	_, err := nc.Subscribe(s.prefix+">", s.handleNoResponders)
	return s, err
}

func (s *silentSubjects) emit(subject string, build func() []byte) {
	s.mu.RLock()
	until, known := s.until[subject]
	s.mu.RUnlock()
	if known && time.Now().Before(until) {
		return
	}
	_ = s.nc.PublishRequest(subject, s.prefix+subject, build()) // an event lost is the price of never waiting
}

// heard gets the server's "no responders"; anything else is an observer's own reply and is ignored.
func (s *silentSubjects) handleNoResponders(msg *nats.Msg) {
	if len(msg.Data) > 0 || msg.Header.Get(headerStatus) != "503" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.until) >= maxSilentSubjects {
		clear(s.until)
	}
	s.until[msg.Subject[len(s.prefix):]] = time.Now().Add(silentFor)
}
