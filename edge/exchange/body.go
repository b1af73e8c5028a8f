package exchange

import (
	"errors"
	"io"

	"millrace/mesh"
	"millrace/node"
)

// Watch starts to detect that the client disconnects, unless the route has on_disconnect: finish. Call it when all of
// the request has been read: from then on no read would notice the end of the connection.
func (x *Exchange) Watch() {
	if x.Route.OnDisconnect != node.OnDisconnectFinish {
		x.Incoming.Watch()
	}
}

// uploadBody is the stream that Upload returns.
type uploadBody struct {
	mesh.Body

	x *Exchange
}

// Trailer returns the trailer fields that may be forwarded.
func (u *uploadBody) Trailer() mesh.Header {
	h := u.Body.Trailer()
	h.Delete(func(f mesh.Field) bool { return !u.x.mayTrail(f.Name) })
	return h
}

func (u *uploadBody) Next() (mesh.Piece, error) {
	p, err := u.Body.Next()
	u.x.streamed.Add(int64(len(p.Data)))
	if errors.Is(err, io.EOF) && !u.x.Upgrade.Socket {
		u.x.Watch()
	}
	return p, err
}

// ReadBody reads the whole body into Body and starts Watch. The body must fit one message: the error has the code
// node.CodeTooLarge if it is longer than that, or than MaxBody.
func (x *Exchange) ReadBody() (err error) {
	limit := min(x.MaxBody(), node.MaxMessageBody)
	if x.Body, err = x.Incoming.ReadBody(int64(limit)); err == nil {
		x.Watch()
		return nil
	}
	if node.CodeOf(err) == node.CodeTooLarge {
		return TooLarge(limit)
	}
	return err
}

// TooLarge returns the error for a body that is larger than limit.
func TooLarge(limit node.Size) error {
	return node.Errorf(node.CodeTooLarge, nil, "the body is larger than the %s that this route takes", limit)
}

// Upload wraps the stream of the request's body. It counts the bytes for BytesIn, drops trailer fields that may not be
// forwarded, and starts Watch at the end of the stream.
func (x *Exchange) Upload(body mesh.Body) mesh.Body { return &uploadBody{body, x} }
