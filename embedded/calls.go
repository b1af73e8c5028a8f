package embedded

import (
	"context"
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// openCallAPI lets members call the services of mesh.member_calls. mesh/PROTOCOL.md has the protocol. They can't
// publish to a service themselves: its answer goes wherever the request says, and the server lets the service write
// there.
func (n *Node) openCallAPI(context.Context) error {
	return n.openMemberAPI("call.*", n.answerCall)
}

func (n *Node) answerCall(ctx context.Context, name string, payload []byte) any {
	switch {
	case node.CheckName(name) != nil:
		return mesh.RelayRefusal(node.CodeInvalid, "ask api.call.NAME, where NAME is a service")
	case !listed(n.applied.Load().Mesh.MemberCalls, name):
		return mesh.RelayRefusal(node.CodeForbidden,
			"members may not call service "+name+": list it in mesh.member_calls of the configuration")
	}
	return n.mesh.Relay(ctx, n.mesh.Service(name), payload)
}

// listed reports whether a list of names, or * for all, has the name.
func listed(names []string, name string) bool {
	return slices.Contains(names, name) || slices.Contains(names, "*")
}
