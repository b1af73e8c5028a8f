package mesh_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// randomBytes returns n bytes, in which any lost, repeated or reordered chunk shows, and their hash.
func randomBytes(seed uint64, n int64) (io.Reader, func() string) {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	h := sha256.New()
	r := io.TeeReader(io.LimitReader(rand.NewChaCha8(key), n), h)
	return r, func() string { return hex.EncodeToString(h.Sum(nil)) }
}

func hash(t *testing.T, b mesh.Body) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, mesh.NewReader(b)); err != nil {
		t.Errorf("read body: %v", err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// serveStreams starts a member that takes streams.
func serveStreams(t *testing.T, c *mesh.Conn, name string, h mesh.HandlerFunc) *mesh.Service {
	t.Helper()
	s, err := c.NewService(mesh.ServiceConfig{Destination: c.Service(name), Handler: h, Streams: true})
	if err == nil {
		err = s.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func upload(r io.Reader, length int64) *mesh.Request {
	req := request("POST", "/up", 5*time.Second)
	req.Stream, req.Length = mesh.NewBody(r), length
	return req
}

// noStreamsLeft checks that no stream and no borrowed window is left.
func noStreamsLeft(t *testing.T, conns ...*mesh.Conn) {
	t.Helper()
	for _, c := range conns {
		nodetest.Eventually(t, "no stream is left", func() bool { return c.Streams() == 0 })
		nodetest.Eventually(t, "the windows are given back", func() bool {
			left, whole := c.WindowPool()
			return left == whole
		})
	}
}

func twoNodes(t *testing.T) (s *natsserver.Server, here, there *mesh.Conn) {
	t.Helper()
	s = natsservertest.Start(t)
	return s, natsservertest.Connect(t, s), natsservertest.Connect(t, s)
}

// Bodies of any size are sent in both directions at once, with and without a length, and with trailers.
func TestStreamEcho(t *testing.T) {
	_, here, there := twoNodes(t)
	serveStreams(t, there, "echo", func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
		if r.Stream == nil {
			return nil, errors.New("no stream")
		}
		return &mesh.Response{
			Status: 200,
			Header: mesh.Header{{Name: "X-Length", Value: strconv.FormatInt(r.Length, 10)}}, Stream: r.Stream,
			Length: r.Length, Member: "m",
		}, nil
	})
	for _, size := range []int64{0, 1, 16 << 10, 16<<10 + 1, 600_000, 20 << 20} {
		for _, length := range []int64{size, -1} {
			r, sent := randomBytes(uint64(size), size)
			resp, err := here.Do(t.Context(), here.Service("echo"), upload(r, length))
			if err != nil {
				t.Fatalf("%d bytes, length %d: %v", size, length, err)
			}
			if got := hash(t, resp.Stream); got != sent() || resp.Length != length || resp.Member != "m" {
				t.Errorf("%d bytes, length %d: hash %s, want %s; %+v", size, length, got, sent(), resp)
			}
			_ = resp.Stream.Close()
		}
	}
	noStreamsLeft(t, here, there)
}

// trailerBody is a body with trailer fields.
type trailerBody struct {
	mesh.Body
	fields mesh.Header
}

func (b trailerBody) Trailer() mesh.Header { return b.fields }

// A request in one message may get a streamed response. Its trailer fields are kept, except those that frame or route.
func TestStreamedReply(t *testing.T) {
	_, here, there := twoNodes(t)
	serve(t, there, "down", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		body := trailerBody{
			mesh.NewBody(strings.NewReader("hello")),
			mesh.Header{{Name: "X-Sum", Value: "5"}, {Name: "Content-Length", Value: "7"}},
		}
		return &mesh.Response{Status: 206, Stream: body, Length: 5}, nil
	})
	for _, method := range []string{"GET", "HEAD"} {
		resp, err := here.Do(t.Context(), here.Service("down"), request(method, "/", 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if method == "HEAD" {
			if resp.Stream != nil {
				t.Errorf("HEAD got %+v", resp)
			}
			continue
		}
		got, err := io.ReadAll(mesh.NewReader(resp.Stream))
		if err != nil || string(got) != "hello" || resp.Length != 5 {
			t.Errorf("got %q, %v, %+v", got, err, resp)
		}
		if tr := resp.Stream.Trailer(); len(tr) != 1 || tr[0].Name != "X-Sum" {
			t.Errorf("trailer %v", tr)
		}
		_ = resp.Stream.Close()
	}
	noStreamsLeft(t, here, there)
}

// The deadline bounds the time to the head, not the stream after it. The handler's context lives as long as the stream.
func TestStreamOutlivesDeadline(t *testing.T) {
	_, here, there := twoNodes(t)
	pieces := make(chan string)
	serve(t, there, "events", 0, func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		r, w := io.Pipe()
		go func() {
			for p := range pieces {
				_, _ = io.WriteString(w, p)
			}
			_ = w.CloseWithError(ctx.Err())
		}()
		return &mesh.Response{Status: 200, Stream: mesh.NewBody(r), Length: -1}, nil
	})
	resp, err := here.Do(t.Context(), here.Service("events"), request("GET", "/", 100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Stream.Close() }()
	for _, want := range []string{"one", "two"} {
		<-time.After(150 * time.Millisecond) // real time: NATS has no other
		pieces <- want
		if p, err := resp.Stream.Next(); err != nil || string(p.Data) != want {
			t.Fatalf("got %q, %v, want %q: a piece must come at once", p.Data, err, want)
		}
	}
	close(pieces)
	if _, err := resp.Stream.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

// A member that can't take streams never sees one.
func TestStreamWithoutStreamingMember(t *testing.T) {
	_, here, there := twoNodes(t)
	serve(t, there, "small", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		t.Error("the member got the request")
		return nil, errors.New("unexpected")
	})
	read := 0
	_, err := here.Do(t.Context(), here.Service("small"), upload(readerFunc(func(p []byte) (int, error) {
		read++
		return len(p), nil
	}), -1))
	wantCode(t, err, node.CodeNoMember)
	if read > 0 {
		t.Error("the body was read though nobody takes it")
	}
	noStreamsLeft(t, here)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A member may answer before it has the whole request. The rest isn't read any more.
func TestAnswerBeforeWholeRequest(t *testing.T) {
	_, here, there := twoNodes(t)
	serveStreams(t, there, "early", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 401, Body: []byte("no")}, nil
	})
	var read atomic.Int64
	resp, err := here.Do(t.Context(), here.Service("early"), upload(readerFunc(func(p []byte) (int, error) {
		read.Add(int64(len(p)))
		return len(p), nil
	}), -1))
	if err != nil || resp.Status != 401 || string(resp.Body) != "no" || resp.Stream != nil {
		t.Fatalf("got %+v, %v", resp, err)
	}
	if before := read.Load(); before > 4<<20 {
		t.Errorf("%d bytes were read for nothing", before)
	}
	noStreamsLeft(t, here, there)
}

// A slow consumer delays only its own stream, and no more than its window is in memory.
func TestBackPressure(t *testing.T) {
	_, here, there := twoNodes(t)
	var sent atomic.Int64
	serve(t, there, "flood", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 200, Length: -1, Stream: mesh.NewBody(readerFunc(func(p []byte) (int, error) {
			sent.Add(int64(len(p)))
			return len(p), nil
		}))}, nil
	})
	var slow []*mesh.Response
	for range 100 {
		resp, err := here.Do(t.Context(), here.Service("flood"), request("GET", "/", 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Stream.Next(); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, resp)
	}
	if n := sent.Load(); n > 100*(64<<10+64<<10) {
		t.Errorf("%d bytes were sent to 100 streams that nobody reads", n)
	}
	quick, err := here.Do(t.Context(), here.Service("flood"), request("GET", "/", 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, mesh.NewReader(quick.Stream), 10<<20); err != nil || n != 10<<20 {
		t.Errorf("the reader got %d bytes, %v", n, err)
	}
	for _, resp := range append(slow, quick) {
		_ = resp.Stream.Close()
	}
	noStreamsLeft(t, here, there)
}

// Whatever goes wrong while a member sends a body of unknown length, its reader gets an error.
func TestStreamEndings(t *testing.T) {
	cases := map[string]struct {
		run  func(t *testing.T, x *manualMember)
		code node.Code
	}{
		"a chunk is lost": {func(_ *testing.T, x *manualMember) { x.chunk(3, "def"); x.end(6) }, node.CodeBadReply},
		"a chunk is doubled": {func(_ *testing.T, x *manualMember) {
			x.chunk(0, "abc")
			x.chunk(0, "abc")
			x.end(3)
		}, node.CodeBadReply},
		"chunks change places": {func(_ *testing.T, x *manualMember) {
			x.chunk(3, "def")
			x.chunk(0, "abc")
			x.end(6)
		}, node.CodeBadReply},
		"the end counts more": {func(_ *testing.T, x *manualMember) { x.chunk(0, "abc"); x.end(4) }, node.CodeBadReply},
		"the end counts less": {func(_ *testing.T, x *manualMember) { x.chunk(0, "abc"); x.end(2) }, node.CodeBadReply},
		"the end is no number": {func(_ *testing.T, x *manualMember) {
			x.send(nats.Header{"Millrace-End": {"x"}}, "")
		}, node.CodeBadReply},
		"the trailer is no HTTP": {func(_ *testing.T, x *manualMember) {
			x.send(nats.Header{"Millrace-End": {"0"}}, "x\n")
		}, node.CodeBadReply},
		"more than allowed": {func(_ *testing.T, x *manualMember) {
			x.chunk(0, strings.Repeat("x", 200_000))
		}, node.CodeBadReply},
		"the member aborts": {func(_ *testing.T, x *manualMember) {
			x.send(nats.Header{"Millrace-Abort": {"upstream_failed"}}, "")
		}, node.CodeUpstream},
		"the member is killed": {func(_ *testing.T, x *manualMember) {
			x.chunk(0, "abc")
			x.nc.Close()
			nodetest.Eventually(t, "the loss is seen", func() bool {
				x.here.ProbeStreams()
				return x.here.Streams() == 0
			})
		}, node.CodeUpstream},
		"the node's connection is lost": {func(t *testing.T, x *manualMember) {
			t.Helper()
			if err := x.server.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		}, node.CodeUnavailable},
		"nothing comes for too long": {func(_ *testing.T, x *manualMember) {
			x.here.SetStreamIdle(time.Nanosecond)
			x.here.EndIdleStreams()
		}, node.CodeTimeout},
		"the client goes away": {func(_ *testing.T, x *manualMember) { x.cancel(); <-x.aborted }, node.CodeCanceled},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			x := newManualMember(t)
			resp, err := x.here.Do(x.ctx, x.here.Service("hand"), request("GET", "/", 5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Stream.Close() }()
			read := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, mesh.NewReader(resp.Stream))
				read <- err
			}()
			<-x.credit
			c.run(t, x)
			if err := <-read; node.CodeOf(err) != c.code {
				t.Errorf("the reader got %v, want code %s", err, c.code)
			}
			noStreamsLeft(t, x.here)
		})
	}
}

// manualMember is a member whose test streams the answer message by message.
type manualMember struct {
	server  *natsserver.Server
	here    *mesh.Conn
	nc      *nats.Conn
	to      string
	credit  chan struct{}   // closed by the first credit
	aborted chan struct{}   // closed by an abort
	ctx     context.Context //nolint:containedctx // of the one request
	cancel  context.CancelFunc
}

func newManualMember(t *testing.T) *manualMember {
	t.Helper()
	s := natsservertest.Start(t)
	x := &manualMember{
		server: s, here: natsservertest.Connect(t, s), credit: make(chan struct{}),
		aborted: make(chan struct{}),
	}
	x.ctx, x.cancel = context.WithCancel(t.Context())
	t.Cleanup(x.cancel)
	nc, err := nats.Connect(s.ClientURL(), nats.Name("hand"), nats.CustomInboxPrefix("_INBOX_hand"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	x.nc = nc
	inbox := nc.NewInbox()
	var first, abort sync.Once
	_, err = nc.Subscribe(inbox, func(m *nats.Msg) {
		switch {
		case m.Header.Get("Millrace-Credit") != "":
			first.Do(func() { x.to = m.Reply; close(x.credit) })
		case m.Header.Get("Millrace-Abort") != "":
			abort.Do(func() { close(x.aborted) })
		}
	})
	if err == nil {
		_, err = nc.QueueSubscribe("http.hand", "q", func(m *nats.Msg) {
			_ = m.RespondMsg(&nats.Msg{
				Reply: inbox, Header: nats.Header{"Millrace-Stream": {"1"}},
				Data: []byte("HTTP/1.1 200 OK\r\n\r\n"),
			})
		})
	}
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *manualMember) send(h nats.Header, data string) {
	_ = x.nc.PublishMsg(&nats.Msg{Subject: x.to, Header: h, Data: []byte(data)})
	_ = x.nc.Flush()
}

func (x *manualMember) chunk(offset int, data string) {
	x.send(nats.Header{"Millrace-Chunk": {strconv.Itoa(offset)}}, data)
}

func (x *manualMember) end(total int) { x.send(nats.Header{"Millrace-End": {strconv.Itoa(total)}}, "") }

// A member that speaks the protocol itself streams an answer whose beginning came with the head.
func TestManualMemberStreams(t *testing.T) {
	x := newManualMember(t)
	resp, err := x.here.Do(t.Context(), x.here.Service("hand"), request("GET", "/", 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Stream.Close() }()
	go func() {
		<-x.credit
		x.chunk(0, "abc")
		x.chunk(3, "def")
		x.end(6)
	}()
	if got, err := io.ReadAll(mesh.NewReader(resp.Stream)); err != nil || string(got) != "abcdef" {
		t.Errorf("got %q, %v", got, err)
	}
	noStreamsLeft(t, x.here)
}

// Whatever goes wrong with the requester's body, the member gets an error and never a short body.
func TestUploadEndings(t *testing.T) {
	brokenOff := io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) {
		return 0, errors.New("gone")
	}))
	waits, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = io.WriteString(w, "abc")
		cancel()
	}()
	for name, c := range map[string]struct {
		ctx    context.Context //nolint:containedctx // of the case
		body   io.Reader
		length int64
	}{
		"the client breaks off":            {t.Context(), brokenOff, -1},
		"the body is shorter than it said": {t.Context(), strings.NewReader("abc"), 4},
		"the body is longer than it said":  {t.Context(), strings.NewReader("abcd"), 3},
		"the client cancels":               {ctx, waits, -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, here, there := twoNodes(t)
			got := make(chan error, 1)
			serveStreams(t, there, "up", func(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
				_, err := io.Copy(io.Discard, mesh.NewReader(r.Stream))
				got <- err
				<-ctx.Done()
				return nil, ctx.Err()
			})
			if _, err := here.Do(c.ctx, here.Service("up"), upload(c.body, c.length)); err == nil {
				t.Error("the requester got no error")
			}
			if err := <-got; err == nil {
				t.Error("the member took the body for complete")
			}
			noStreamsLeft(t, here, there)
		})
	}
}

// A member that takes the request but grants no credit runs into the deadline.
func TestNoCredit(t *testing.T) {
	s := natsservertest.Start(t)
	here := natsservertest.Connect(t, s)
	subscribe(t, s.ClientURL(), "http.mute.stream", func(*nats.Msg) {})
	req := upload(bytes.NewReader(make([]byte, 1<<20)), 1<<20)
	req.Deadline = time.Now().Add(200 * time.Millisecond)
	_, err := here.Do(t.Context(), here.Service("mute"), req)
	wantCode(t, err, node.CodeTimeout)
	noStreamsLeft(t, here)
}

// A handler that fails, panics or closes the body ends the stream, and the client's body isn't read on.
func TestStreamHandlerFails(t *testing.T) {
	_, here, there := twoNodes(t)
	serveStreams(t, there, "fail", func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
		switch r.Header.Get("X-How") {
		case "panic":
			panic("handler")
		case "late":
			return &mesh.Response{
				Status: 200, Length: -1,
				Stream: mesh.NewBody(io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) {
					return 0, errors.New("disk")
				}))),
			}, nil
		}
		return nil, node.Errorf(node.CodeUpstream, nil, "no")
	})
	for how, code := range map[string]node.Code{
		"error": node.CodeUpstream, "panic": node.CodeInternal,
		"late": node.CodeUpstream,
	} {
		req := upload(readerFunc(func(p []byte) (int, error) { return len(p), nil }), -1)
		req.Header = mesh.Header{{Name: "X-How", Value: how}}
		resp, err := here.Do(t.Context(), here.Service("fail"), req)
		if how == "late" {
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, mesh.NewReader(resp.Stream))
			_ = resp.Stream.Close()
		}
		if node.CodeOf(err) != code {
			t.Errorf("%s: got %v, want %s", how, err, code)
		}
	}
	noStreamsLeft(t, here, there)
}

// Interim responses come before the response: all that HTTP allows there, known or not, up to eight.
func TestInterimResponses(t *testing.T) {
	_, here, there := twoNodes(t)
	handler := func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
		r.Interim(103, mesh.Header{{Name: "Link", Value: "</a.css>; rel=preload"}})
		for _, status := range []int{100, 101, 200, 99, 104, 199} {
			r.Interim(status, nil)
		}
		for range 20 {
			r.Interim(102, nil)
		}
		return &mesh.Response{Status: 200, Body: []byte("done")}, nil
	}
	serveStreams(t, there, "early", handler)
	for _, stream := range []bool{false, true} {
		got := interimResponses(t, here, "early", stream)
		if want := "103</a.css>; rel=preload 104 199 102 102 102 102 102"; strings.Join(got, " ") != want {
			t.Errorf("stream %t: interim responses %q", stream, got)
		}
	}
}

// Interim responses that are too large are dropped, and the response comes nevertheless.
func TestLargeInterimResponsesAreDropped(t *testing.T) {
	_, here, there := twoNodes(t)
	serveStreams(t, there, "large", func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
		for i := range 6 {
			r.Interim(103, mesh.Header{
				{Name: "Link", Value: strconv.Itoa(i)},
				{Name: "X", Value: strings.Repeat("x", 20<<10)},
			})
		}
		r.Interim(104, nil)
		return &mesh.Response{Status: 200, Body: []byte("done")}, nil
	})
	for _, stream := range []bool{false, true} {
		if got := interimResponses(t, here, "large", stream); strings.Join(got, " ") != "1030 1031 1032 104" {
			t.Errorf("stream %t: interim responses %q", stream, got)
		}
	}
}

// interimResponses asks a service and returns its interim responses: status and Link.
func interimResponses(t *testing.T, c *mesh.Conn, service string, stream bool) (got []string) {
	t.Helper()
	req := request("POST", "/", 5*time.Second)
	if stream {
		req = upload(strings.NewReader("x"), -1)
	}
	req.Interim = func(status int, h mesh.Header) { got = append(got, strconv.Itoa(status)+h.Get("Link")) }
	resp, err := c.Do(t.Context(), c.Service(service), req)
	if err != nil || string(resp.Body) != "done" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	return got
}

// repeatedPiece is a body that repeats one piece.
type repeatedPiece struct {
	piece mesh.Piece
	left  atomic.Int64
}

func (p *repeatedPiece) Next() (mesh.Piece, error) {
	if p.left.Add(-1) < 0 {
		return mesh.Piece{}, io.EOF
	}
	return p.piece, nil
}

func (p *repeatedPiece) Trailer() mesh.Header { return nil }
func (p *repeatedPiece) Close() error         { return nil }

func repeatPiece(n int64, p mesh.Piece) *repeatedPiece {
	b := &repeatedPiece{piece: p}
	b.left.Store(n)
	return b
}

// A refused socket returns its window, even if the refusal's body is streamed.
func TestRefusedSocketReturnsItsWindow(t *testing.T) {
	_, here, there := twoNodes(t)
	serveStreams(t, there, "no", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 403, Length: -1, Stream: repeatPiece(3, mesh.Piece{Data: []byte("no")})}, nil
	})
	req := upload(strings.NewReader(""), -1)
	req.Upgrade = mesh.UpgradeMessages
	resp, err := here.Do(t.Context(), here.Service("no"), req)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(mesh.NewReader(resp.Stream)); err != nil || string(got) != "nonono" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = resp.Stream.Close()
	noStreamsLeft(t, here, there)
}

// Empty messages need credit too: a service that doesn't read holds only a few of them.
func TestEmptyMessages(t *testing.T) {
	_, here, there := twoNodes(t)
	silent, w := io.Pipe()
	serveStreams(t, there, "deaf", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 101, Length: -1, Stream: mesh.NewBody(silent)}, nil
	})
	const many = 1_000_000
	req, messages := upload(nil, -1), repeatPiece(many, mesh.Piece{Data: []byte{}, Kind: mesh.KindText})
	req.Stream, req.Upgrade = messages, mesh.UpgradeMessages
	resp, err := here.Do(t.Context(), here.Service("deaf"), req)
	if err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the window is full", func() bool {
		before := messages.left.Load()
		<-time.After(20 * time.Millisecond) // time in which more would be sent
		return before < many && messages.left.Load() == before
	})
	if sent := many - messages.left.Load(); sent > 2000 {
		t.Errorf("%d empty messages were sent to a service that doesn't read", sent)
	}
	_ = w.Close()
	_ = resp.Stream.Close()
	noStreamsLeft(t, here, there)
}
