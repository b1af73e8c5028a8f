package guard

// Stop makes Close end at once, as after the listener's own Close.
func (c *Conn) Stop() { c.l.stopped.Store(true) }
