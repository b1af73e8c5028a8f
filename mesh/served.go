package mesh

// Served reports whether anybody subscribes to the subject of the destination, as far as this node's server has heard
// within the last 100 ms. known is false where the server can't be asked (mesh.url).
func (c *Conn) Served(to Destination) (served, known bool) {
	return c.interested(to.subject)
}

// PlainServed is Served for the subject of a plain NATS service, as node.Subject.Expand gives it.
func (c *Conn) PlainServed(subject string) (served, known bool) {
	return c.interested(c.PlainSubject(subject))
}

// PlainSubject is what DoPlain publishes on: the subject behind the mesh's prefix.
func (c *Conn) PlainSubject(subject string) string { return c.cfg.Prefix + subject }

func (c *Conn) interested(subject string) (heard, known bool) {
	if c.cfg.Interest == nil {
		return false, false
	}
	return c.cfg.Interest.Interested(subject), true
}
