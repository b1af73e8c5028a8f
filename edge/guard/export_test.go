package guard

// Stop makes Close end at once, as after the listener's own Close.
func (c *Conn) Stop() { c.l.stopped.Store(true) }

// Waiting counts the connections that wait for a request, and of these the ones whose client has proven nothing.
func (l *Listener) Waiting() (all, unprovenOf int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if idle := c.waiting.Load(); idle > 0 {
			all++
			unprovenOf += int(idle & unproven)
		}
	}
	return all, unprovenOf
}
