package exchange

import (
	"net/http"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// Accept sets the exchange's settings, checks its form and fills Host, Path and Query. An error becomes
// Outcome.Refusal. An exchange that the front has refused already isn't checked.
func (x *Exchange) Accept(set *Settings) {
	x.Settings, x.Trusted = set, set.Trusts(x.Peer)
	if x.Outcome.Refusal == nil {
		x.Outcome.Refusal = x.accept()
	}
}

// accept checks method, target and fields, and fills Host, Path and Query. The front has checked framing and syntax. A
// request that is refused here is the last one of its connection: its client may mean the bytes after it as something
// else than a request.
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

// ServedMethods is the value of Allow for a request that has no route.
const ServedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// AcceptFields removes header fields that nothing after it (routes, keys, limits, the origin) may see: those of the
// client's connection, those that only nodes may write, and those that only trusted proxies may write. The error has
// the code node.CodeLoop if this node's entry is in Via.
func (x *Exchange) AcceptFields() error {
	hop, foreign := false, false
	for i := range x.Header {
		f := &x.Header[i]
		switch {
		case !mayNeedCheck(f.Name):
		case node.SameName(f.Name, "Via"):
			if strings.Contains(f.Value, x.Settings.Via) {
				return node.Errorf(node.CodeLoop, nil,
					"the request has passed this node before: a target points back at it")
			}
		case node.Hop(f.Name):
			hop = true
		case x.mustDrop(f.Name):
			foreign = true
		}
	}
	if hop {
		x.listed = x.Header.DropHopByHop()
	}
	if foreign {
		x.Header.Delete(func(f mesh.Field) bool { return x.mustDrop(f.Name) })
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
