package edge

import (
	"context"
	"unsafe"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// identify sets the request's id, which is sent to the member and in the response. An id from a trusted proxy is kept.
func identify() exchange.Policy {
	return exchange.Policy{Name: "identify", Wrap: identified, Short: &exchange.Short{Leave: identifyHit}}
}

// identified is identify on the full way.
func identified(next exchange.Handler) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		x.ID = requestID(x, new([32]byte))
		resp, err := next(ctx, x)
		if resp != nil {
			resp.Header.Set("X-Request-Id", x.ID)
		}
		return resp, err
	}
}

// idScratch is the memory for the id of an exchange on the short way. The connection's next exchange uses it again.
type idScratch struct{ id [32]byte }

var idLocal = exchange.NewLocal(func(*idScratch) {})

// identifyHit is identify on the short way.
func identifyHit(x *exchange.Exchange, resp *mesh.Response) {
	x.ID = requestID(x, &idLocal.Make(x).id)
	resp.Header.Add("X-Request-Id", x.ID)
}

// requestID returns the id that a trusted proxy has set, or a new one that aliases scratch.
func requestID(x *exchange.Exchange, scratch *[32]byte) string {
	if x.Trusted {
		if id := x.Header.Get("X-Request-Id"); validID(id) {
			return id
		}
	}
	exchange.WriteID(scratch)
	return unsafe.String(&scratch[0], len(scratch))
}

// validID reports whether an id has 1 to 128 bytes, all unreserved in URLs.
func validID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !node.Unreserved(c) {
			return false
		}
	}
	return true
}
