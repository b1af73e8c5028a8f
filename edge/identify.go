package edge

import (
	"context"
	"unsafe"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// identify gives the request an id and a place in its trace (W3C Trace Context, level 1). Both go on to the member; the
// id goes back to the client too. An id from a trusted proxy is kept.
func identify() exchange.Policy {
	return exchange.Policy{Name: "identify", Wrap: identified, Short: &exchange.Short{Leave: identifyHit}}
}

func identified(next exchange.Handler) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		x.ID = identity(x, new([32]byte))
		resp, err := next(ctx, x)
		if resp != nil {
			resp.Header.Set("X-Request-Id", x.ID)
		}
		return resp, err
	}
}

// idRoom is the memory of the id of an exchange on the short way, which is used again for the next one.
type idRoom struct{ id [32]byte }

// Reset leaves it as it is: an id that is written over is gone.
func (*idRoom) Reset() {}

var idSlot = exchange.NewSlot[idRoom]() //nolint:gochecknoglobals // its number never changes

func identifyHit(x *exchange.Exchange, resp *mesh.Response) {
	x.ID = identity(x, &idSlot.Make(x).id)
	resp.Header.Add("X-Request-Id", x.ID)
}

// identity is the id of a trusted proxy, or a new one, written into room.
func identity(x *exchange.Exchange, room *[32]byte) string {
	if x.Trusted {
		if id := x.Header.Get("X-Request-Id"); validID(id) {
			return id
		}
	}
	exchange.WriteID(room)
	return unsafe.String(&room[0], len(room))
}

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
