package exchange

import (
	"net/http"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// Accept puts the exchange under settings and checks its form, unless the front has refused it already. What is wrong
// becomes Outcome.Refusal.
func (x *Exchange) Accept(set *Settings) {
	x.Settings, x.Trusted = set, set.Trusts(x.Peer)
	if x.Outcome.Refusal == nil {
		x.Outcome.Refusal = x.accept()
	}
}

// accept checks what the request asks for and fills Host, Path and Query. Framing and syntax are the front's business.
// What is refused here is the last request of its connection: who writes it so may mean its next bytes as something
// else.
func (x *Exchange) accept() error {
	x.Outcome.Last = true
	if !http1.ValidMethod(x.Method) || x.Method == http.MethodConnect || x.Method == http.MethodTrace {
		x.Outcome.Allow = ServedMethods
		return node.Errorf(node.CodeMethod, nil, "the method is not served here")
	}
	if err := x.AcceptTarget(); err != nil {
		return node.Errorf(node.CodeInvalid, err, "the request target is malformed: %s", err)
	}
	if err := x.AcceptFields(); err != nil {
		return err
	}
	x.Outcome.Last = false
	return nil
}

// ServedMethods is what Allow says where no route has its say.
const ServedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// AcceptFields drops fields that belong to the client's connection, those that only nodes may write, and those that
// count from trusted proxies only, so that nothing behind it (routes, keys, limits, the origin) sees them. It refuses
// what goes in a circle.
func (x *Exchange) AcceptFields() error {
	hop, foreign := false, false
	for i := range x.Header {
		f := &x.Header[i]
		switch {
		case !matters(f.Name):
		case node.SameName(f.Name, "Via"):
			if strings.Contains(f.Value, x.Settings.Via) {
				return node.Errorf(node.CodeLoop, nil,
					"the request has passed this node before: a target points back at it")
			}
		case node.Hop(f.Name):
			hop = true
		case x.foreign(f.Name):
			foreign = true
		}
	}
	if hop {
		x.listed = x.Header.DropHopByHop()
	}
	if foreign {
		x.Header.Delete(func(f mesh.Field) bool { return x.foreign(f.Name) })
	}
	x.Upgrade.Socket = x.Upgrade.Socket && x.Header.Has("Sec-WebSocket-Key")
	return nil
}

// AcceptTarget fills Host, Path and Query from Target and the Host field.
func (x *Exchange) AcceptTarget() error {
	if x.Target == "*" && x.Method == http.MethodOptions { // RFC 9112 §3.2.4: the node as a whole
		x.Path = "*"
		return x.setAuthority("")
	}
	authority, path, query, err := http1.SplitTarget(x.Target)
	if err != nil {
		return err
	}
	if err := x.setAuthority(authority); err != nil {
		return err
	}
	x.Path, x.encodedSlash, err = node.CanonicalPath(path)
	x.Query = query
	return err
}

// EncodedSlash reports whether the path holds an encoded slash.
func (x *Exchange) EncodedSlash() bool { return x.encodedSlash }
