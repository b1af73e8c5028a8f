package mesh

// Served reports whether anybody subscribes to the subject of the destination, as far as this node's server has heard
// within the last 100 ms. known is false where the server can't be asked (mesh.url).
func (c *Conn) Served(to Destination) (served, known bool) {
	if c.cfg.Interest == nil {
		return false, false
	}
	return c.cfg.Interest.Interested(to.subject), true
}
