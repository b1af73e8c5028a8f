//go:build !unix

package upstream

// alive can't look on this system: connections are believed to stand.
func (c *conn) alive() bool { return true }
