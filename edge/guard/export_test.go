package guard

// Stop makes Close end at once, as after the listener's own Close.
func (c *Conn) Stop() { c.l.stopped.Store(true) }

// Idle is the number of connections that wait for a request.
func (l *Listener) Idle() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.idle.Load() > 0 {
			n++
		}
	}
	return n
}
