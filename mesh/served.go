package mesh

// Served reports whether anybody subscribes to the destination's subject, as far as this node's server knew within the
// last 100 ms. known is false if the server can't be asked (mesh.url).
func (c *Conn) Served(to Destination) (served, known bool) {
	return c.interested(to.subject)
}

// PlainServed is Served for the subject of a plain NATS service, as node.Subject.Expand returns it.
func (c *Conn) PlainServed(subject string) (served, known bool) {
	return c.interested(c.PlainSubject(subject))
}

// PlainSubject returns the subject that DoPlain publishes on: the given one with the mesh's prefix.
func (c *Conn) PlainSubject(subject string) string { return c.cfg.Prefix + subject }

func (c *Conn) interested(subject string) (interested, known bool) {
	if c.cfg.Interest == nil {
		return false, false
	}
	return c.cfg.Interest.Interested(subject), true
}
