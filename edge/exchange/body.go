package exchange

import (
	"errors"
	"io"

	"millrace/mesh"
	"millrace/node"
)

// Watch begins to look for the client's end, once all of the request has been read and nobody else would notice.
func (x *Exchange) Watch() {
	if x.Route.OnDisconnect != node.OnDisconnectFinish {
		x.Incoming.Watch()
	}
}

// uploading is a request's stream whose bytes are counted, and whose client is watched when it has ended.
type uploading struct {
	mesh.Body

	x *Exchange
}

// Trailer gives the trailer fields that may go on.
func (u *uploading) Trailer() mesh.Header {
	h := u.Body.Trailer()
	h.Delete(func(f mesh.Field) bool { return !u.x.mayTrail(f.Name) })
	return h
}

func (u *uploading) Next() (mesh.Piece, error) {
	p, err := u.Body.Next()
	u.x.streamed.Add(int64(len(p.Data)))
	if errors.Is(err, io.EOF) && !u.x.Upgrade.Socket {
		u.x.Watch()
	}
	return p, err //nolint:wrapcheck // io.EOF must stay itself
}

// ReadBody reads a body that must fit one message.
func (x *Exchange) ReadBody() (err error) {
	limit := min(x.MaxBody(), node.MaxMessageBody)
	if x.Body, err = x.Incoming.ReadBody(int64(limit)); err == nil {
		x.Watch()
		return nil
	}
	if node.CodeOf(err) == node.CodeTooLarge {
		return TooLarge(limit)
	}
	return err //nolint:wrapcheck // a *node.Error already
}

// TooLarge is the refusal of a body.
func TooLarge(limit node.Size) error {
	return node.Errorf(node.CodeTooLarge, nil, "the body is larger than the %s that this route takes", limit)
}

// Upload gives the request's stream, whose bytes are counted, whose trailer fields are those that may go on, and whose
// client is watched when it has ended.
func (x *Exchange) Upload(body mesh.Body) mesh.Body { return &uploading{body, x} }
