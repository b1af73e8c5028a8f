package front

import (
	"errors"
	"io"
	"net/http"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// Writer writes the response of one exchange to its client, independent of the protocol version.
type Writer interface {
	// Begin writes the head. The body has resp.Length bytes, or any number if that is -1.
	Begin(x *exchange.Exchange, resp *mesh.Response) error
	// File writes the head and the whole body.
	File(x *exchange.Exchange, resp *mesh.Response, body exchange.FileBody) error
	// Switch writes the head of a 101. From then on Data writes the bytes of protocol.
	Switch(x *exchange.Exchange, resp *mesh.Response, protocol string) error
	// Data writes bytes of the body.
	Data(parts ...[]byte) error
	// End ends the body, with the trailer fields if the protocol version has any.
	End(x *exchange.Exchange, trailer mesh.Header) error
	// Break ends the exchange in such a way that the client sees that its response is incomplete.
	Break()
	// Watch starts to detect that the client disconnects, until Unwatch.
	Watch()
	Unwatch()
}

// stream writes a response whose body is a stream, each piece as it comes. If the body breaks off, stream calls Break.
func (f *Front) stream(c *client, x *exchange.Exchange, resp *mesh.Response) {
	var w Writer = c
	defer w.Unwatch()
	if x.Outcome.Stored != nil {
		defer x.Outcome.Stored.Release()
	}
	defer func() { _ = resp.Stream.Close() }() // before Unwatch, which waits for what reads the connection
	if resp.Status == http.StatusSwitchingProtocols {
		f.socket(w, c.messages, x, resp)
		return
	}
	// The target has refused the socket. What the client sends isn't needed, but its disconnecting must be detected.
	if x.Upgrade.Socket && x.Forward.Stream != nil {
		_ = x.Forward.Stream.Close()
		w.Watch()
	}
	if isEventStream(resp) {
		leave, ok := f.streams.enter(func() { _ = resp.Stream.Close() })
		if !ok {
			w.Break()
			return
		}
		defer leave()
	}
	if err := copyBody(w, x, resp); err != nil {
		w.Break()
	}
}

// copyBody writes the head and the whole body. An error means that the client hasn't got all of it.
func copyBody(w Writer, x *exchange.Exchange, resp *mesh.Response) error {
	if body, ok := resp.Stream.(exchange.FileBody); ok {
		return w.File(x, resp, body)
	}
	if err := w.Begin(x, resp); err != nil {
		return err
	}
	for {
		p, err := resp.Stream.Next()
		switch {
		case errors.Is(err, io.EOF):
			return w.End(x, resp.Stream.Trailer())
		case err != nil:
			return err
		}
		if len(p.Data) == 0 {
			continue
		}
		if err := w.Data(p.Data); err != nil {
			return err
		}
	}
}

// isEventStream reports whether the head is that of an event stream, which may never end by itself.
func isEventStream(resp *mesh.Response) bool {
	return resp.Length < 0 && node.HasPrefixFold(resp.Header.Get("Content-Type"), "text/event-stream")
}
