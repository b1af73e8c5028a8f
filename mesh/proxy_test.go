package mesh_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node"
)

// tamperingProxy is a NATS proxy. It copies the protocol between a client and the server, and passes each message with
// headers to change, which returns how often to forward it.
type tamperingProxy struct {
	addr   string
	change func(header string) int
}

func newTamperingProxy(t *testing.T, server string) *tamperingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tamperingProxy{addr: l.Addr().String(), change: func(string) int { return 1 }}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				t.Error(err)
				return
			}
			conns.Go(func() { _ = p.copyOperations(client, upstream); _ = client.Close() })
			conns.Go(func() { _ = p.copyOperations(upstream, client); _ = upstream.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return p
}

// copyOperations copies protocol operations. HPUB and HMSG have headers, PUB and MSG only a payload.
func (p *tamperingProxy) copyOperations(from, to net.Conn) error {
	defer func() { _ = to.Close() }()
	in := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		op := bytes.Clone(line)
		words := strings.Fields(string(op))
		times := 1
		if len(words) > 2 && strings.Contains("PUB MSG HPUB HMSG", words[0]) {
			total, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				return err
			}
			payload := make([]byte, total+2)
			if _, err := io.ReadFull(in, payload); err != nil {
				return err
			}
			if words[0][0] == 'H' {
				head, _ := strconv.Atoi(words[len(words)-2])
				times = p.change(string(payload[:head]))
			}
			op = append(op, payload...)
		}
		for range times {
			if _, err := to.Write(op); err != nil {
				return err
			}
		}
	}
}

// A stream message that NATS loses or delivers twice is an error on both sides, and never a body that looks complete. A
// credit that comes twice does no harm.
func TestTamperedStreams(t *testing.T) {
	const size = 3 << 20
	for _, c := range []struct {
		header string
		nth    int64 // message with that header, counted in both directions
		times  int
		whole  bool
	}{
		{"Millrace-Chunk", 3, 0, false},
		{"Millrace-Chunk", 3, 2, false},
		{"Millrace-Chunk", 40, 0, false},
		{"Millrace-Chunk", 41, 2, false},
		{"Millrace-Chunk", 0, 1, true},
		{"Millrace-Credit", 2, 2, true},
		{"Millrace-Credit", 1, 2, true},
	} {
		t.Run(fmt.Sprint(c.header, " ", c.nth, " times ", c.times), func(t *testing.T) {
			s := natsservertest.Start(t)
			here := natsservertest.Connect(t, s)
			p := newTamperingProxy(t, s.Addr())
			var seen atomic.Int64
			p.change = func(header string) int {
				if strings.Contains(header, c.header+":") && seen.Add(1) == c.nth {
					return c.times
				}
				return 1
			}
			user, password := s.NodeCredential()
			there := natsservertest.Connect(t, s, func(cfg *mesh.Config) {
				cfg.InProcess, cfg.User, cfg.Password = nil, "", ""
				cfg.URL = fmt.Sprintf("nats://%s:%s@%s", user, password, p.addr)
			})
			serveStreams(t, there, "echo", func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
				return &mesh.Response{Status: 200, Stream: r.Stream, Length: -1}, nil
			})
			body, sent := randomBytes(1, size)
			resp, err := here.Do(t.Context(), here.Service("echo"), upload(body, -1))
			got := ""
			if err == nil {
				var b bytes.Buffer
				if _, err = io.Copy(&b, mesh.NewReader(resp.Stream)); err == nil {
					got = hash(t, mesh.NewBody(&b))
				}
				_ = resp.Stream.Close()
			}
			if c.whole {
				if err != nil || got != sent() {
					t.Errorf("the body came back as %s, %v", got, err)
				}
			} else if err == nil || node.CodeOf(err) == "" {
				t.Errorf("the body came back as if it were complete: %s", got)
			}
			if seen.Load() < c.nth {
				t.Errorf("only %d messages passed", seen.Load())
			}
			noStreamsLeft(t, here, there)
		})
	}
}
