package front

import (
	"errors"
	"io"
	"net/http"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node/http1"
)

// Writer is the client's end of one exchange, whatever protocol carries it.
type Writer interface {
	// Begin writes the head of a response whose body has resp.Length bytes, or ends with End if that is -1.
	Begin(x *exchange.Exchange, resp *mesh.Response) error
	// Switch writes the head of a 101: the client speaks protocol from here on, and Data is its bytes.
	Switch(x *exchange.Exchange, resp *mesh.Response, protocol string) error
	// Data writes bytes of the body.
	Data(parts ...[]byte) error
	// End ends the body, with its trailer fields if the protocol and the client can have some.
	End(x *exchange.Exchange, trailer mesh.Header) error
	// Break ends the exchange so that the client sees its response cut off.
	Break()
	// Watch looks for the client's end, until Unwatch.
	Watch()
	Unwatch()
}

// stream writes a response whose body comes in pieces, each as it comes. A body that breaks off breaks the exchange.
func (f *Front) stream(c *client, x *exchange.Exchange, resp *mesh.Response) {
	var w Writer = c
	defer w.Unwatch()
	if x.Outcome.Stored != nil {
		defer x.Outcome.Stored.View.Release()
	}
	defer func() { _ = resp.Stream.Close() }() // before the look-out ends: it waits for whoever reads the connection
	if resp.Status == http.StatusSwitchingProtocols {
		f.socket(w, c.messages, x, resp)
		return
	}
	// that the target doesn't open: what the client sends is for nobody, but its end is to be seen
	if x.Upgrade.Socket && x.Forward.Stream != nil {
		_ = x.Forward.Stream.Close()
		w.Watch()
	}
	if endless(resp) {
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

// copyBody writes the head and then the body to its end. An error means that the client hasn't all of it.
func copyBody(w Writer, x *exchange.Exchange, resp *mesh.Response) error {
	if err := w.Begin(x, resp); err != nil {
		return err //nolint:wrapcheck // the caller only wants to know that there is one
	}
	for {
		p, err := resp.Stream.Next()
		switch {
		case errors.Is(err, io.EOF):
			return w.End(x, resp.Stream.Trailer()) //nolint:wrapcheck // see above
		case err != nil:
			return err //nolint:wrapcheck // see above
		}
		if len(p.Data) == 0 {
			continue
		}
		if err := w.Data(p.Data); err != nil {
			return err //nolint:wrapcheck // see above
		}
	}
}

// endless reports whether a response is one that ends only when somebody ends it, as far as its head tells.
func endless(resp *mesh.Response) bool {
	return resp.Length < 0 && http1.HasPrefixFold(resp.Header.Get("Content-Type"), "text/event-stream")
}
