package mesh

import (
	"strings"

	"millrace/node"
)

// Destination is a service or upstream on the mesh: the subjects for its requests and their cancellations. Make it once
// with Conn.Service or Conn.Upstream and keep it.
type Destination struct {
	label   string // for logs, metrics and reply subjects
	subject string
	stream  string // subject of requests whose bodies are streams
	cancel  string
	answers answerers
}

// answerers says which subscribers may answer a destination's requests.
type answerers uint8

const (
	anyMember answerers = iota
	anyNode             // nodes, which tell the caller what they run
	oneNode
)

// onlyNodes reports whether all members are nodes.
func (d *Destination) onlyNodes() bool { return d.answers != anyMember }

// nodeID returns the id of the only node that answers, or "" if others may answer too.
func (d *Destination) nodeID() string {
	if d.answers != oneNode {
		return ""
	}
	return d.label[strings.LastIndexByte(d.label, '.')+1:]
}

// QueueGroup is the queue group that every member subscribes in.
const QueueGroup = node.QueueGroup

// Service returns the destination of the members that subscribe to http.NAME. The name must pass node.CheckName.
func (c *Conn) Service(name string) Destination { return c.destination("http", name) }

// Upstream returns the destination upstream.NAME: the built-in members that call the targets of an upstream.
func (c *Conn) Upstream(name string) Destination {
	d := c.destination("upstream", name)
	d.answers = anyNode
	return d
}

// Node returns the destination of one node in a role that nodes have for one another. Only nodes may publish on its
// subject, and only that node answers. id is a node's id: letters, digits, - and _.
func (c *Conn) Node(role, id string) Destination {
	d := c.destination("millrace."+role, id)
	d.answers = oneNode
	return d
}

func (c *Conn) destination(kind, name string) Destination {
	p := c.cfg.Prefix
	subject := p + kind + "." + name
	return Destination{
		label: kind + "." + name, subject: subject, stream: subject + ".stream",
		cancel: p + "cancel." + kind + "." + name,
	}
}

// Subject returns the subject of the requests.
func (d Destination) Subject() string { return d.subject }

// String returns the destination's label: http.NAME or upstream.NAME.
func (d Destination) String() string { return d.label }
