package memberapi

import (
	"context"
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// calls answers api.call.NAME: members call the services of mesh.member_calls through a node. Members may not publish
// to a service themselves: its reply goes wherever the request says, and the server would let the service publish
// there.
type calls struct {
	conn    *mesh.Conn
	applied func() *node.Config
}

func (c calls) answer(ctx context.Context, name string, payload []byte) any {
	switch {
	case node.CheckName(name) != nil:
		return mesh.RelayRefusal(node.CodeInvalid, "ask api.call.NAME, where NAME is a service")
	case !listed(c.applied().Mesh.MemberCalls, name):
		return mesh.RelayRefusal(node.CodeForbidden,
			"members may not call service "+name+": list it in mesh.member_calls of the configuration")
	}
	return c.conn.Relay(ctx, c.conn.Service(name), payload)
}

// listed reports whether a list of names contains the name, or * for all.
func listed(names []string, name string) bool {
	return slices.Contains(names, name) || slices.Contains(names, "*")
}
