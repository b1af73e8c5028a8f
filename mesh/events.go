package mesh

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Emit publishes an event if anybody listens to its subject, and reports whether somebody may. A response has the
// subject event.http.ROUTE.CLASS, with CLASS 2xx to 5xx. The subject has no mesh prefix and consists of names that pass
// node.CheckName. Only then is build called; it returns one JSON object. Events are for observers: Emit neither waits
// nor repeats.
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
		_ = c.nc.Publish(full, build()) // lost events are accepted, to never wait
		return true
	}
	return false
}

// silentSubjects remembers the subjects that nobody listens to, on a NATS server whose interest can't be asked. An
// event is published with a reply subject that names it. If the server answers "no responders", the subject counts as
// silent for a second.
type silentSubjects struct {
	nc     *nats.Conn
	prefix string // of the reply subjects

	mu    sync.RWMutex
	until map[string]time.Time // silent subjects
}

const (
	silentFor         = time.Second
	maxSilentSubjects = 4096 // remembered subjects; beyond that all are forgotten
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
	_ = s.nc.PublishRequest(subject, s.prefix+subject, build()) // lost events are accepted, to never wait
}

// handleNoResponders handles the server's "no responders". Anything else is an observer's own reply and is ignored.
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
