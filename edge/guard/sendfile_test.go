package guard_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"millrace/edge/guard"
)

// hidden is a TCP connection that doesn't look like one.
type hidden struct{ net.Conn }

// sender sends a head and a body, or the file that holds the body, to a connection.
type sender struct {
	name string
	hide bool
	send func(c *guard.Conn, head, body []byte, file *os.File) error
}

func senders() []sender {
	whole := func(c *guard.Conn, head, body []byte, file *os.File) error {
		n, err := c.SendFile(head, file, 0, int64(len(body)))
		if err == nil && n != int64(len(body)) {
			err = fmt.Errorf("%d bytes of %d are sent", n, len(body))
		}
		return err
	}
	return []sender{
		{"Send", false, func(c *guard.Conn, head, body []byte, _ *os.File) error {
			for piece := range slices.Chunk(append(head, body...), 64<<10) { // as a body that streams
				if err := c.Send(true, piece); err != nil {
					return err
				}
			}
			return nil
		}},
		{"SendFile", false, whole},
		{"SendFile without TCP", true, whole},
	}
}

// connected returns a guarded connection whose system buffers are small, and its client.
func connected(t *testing.T, hide bool, writeTimeout time.Duration) (*guard.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	inner, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = client.(*net.TCPConn).SetReadBuffer(16 << 10)
	_ = inner.(*net.TCPConn).SetWriteBuffer(16 << 10)
	if hide {
		inner = hidden{inner}
	}
	allowed := limits
	allowed.WriteTimeout = writeTimeout
	c := wrap(inner, allowed, guard.NewBudget(1<<20))
	c.Stop()
	t.Cleanup(func() { _, _ = client.Close(), c.Close() })
	return c, client.(*net.TCPConn)
}

// fileOf returns a body of n bytes, and a file with it.
func fileOf(t *testing.T, n int) ([]byte, *os.File) {
	t.Helper()
	body := make([]byte, n)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{1}), body)
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return body, f
}

// Whatever sends, a client that reads gets every byte however long it takes, and one that doesn't is given up after the
// write time-out, and not before.
func TestSendingFollowsTheClientsPace(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	for _, s := range senders() {
		for _, c := range []struct {
			name  string
			size  int
			every time.Duration // between reads of 32 KiB each
			reads int           // how many; then it stops. 0 is all
			fails error
		}{
			{name: "reads at once", size: 9 << 20},
			{name: "reads slowly", size: 4 << 20, every: 15 * time.Millisecond},
			{name: "reads nothing", size: 9 << 20, reads: -1, fails: os.ErrDeadlineExceeded},
			{name: "empty", size: 0},
		} {
			t.Run(s.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				conn, client := connected(t, s.hide, timeout)
				body, file := fileOf(t, c.size)
				got := make(chan []byte, 1)
				go func() { got <- readSlowly(client, c.every, c.reads) }()
				begun := time.Now()
				err := s.send(conn, []byte("head\r\n\r\n"), body, file)
				took := time.Since(begun)
				if !errors.Is(err, c.fails) || (err != nil) != (c.fails != nil) {
					t.Fatalf("after %s: got %v, want %v", took, err, c.fails)
				}
				_ = conn.Close()
				if want := append([]byte("head\r\n\r\n"), body...); c.fails == nil && !bytes.Equal(<-got, want) {
					t.Error("the client got other bytes")
				}
				if (c.every > 0 || c.fails != nil) && took < timeout {
					t.Errorf("ended after %s", took)
				}
			})
		}
	}
}

// readSlowly reads to the end, with a pause after each 32 KiB, or so many times, or nothing.
func readSlowly(from io.Reader, every time.Duration, reads int) []byte {
	var all bytes.Buffer
	for n := 0; reads == 0 || n < reads; n++ {
		if _, err := io.CopyN(&all, from, 32<<10); err != nil {
			break
		}
		if every > 0 {
			<-time.After(every) // this is what a slow client does
		}
	}
	return all.Bytes()
}

// Parts of one file go to several clients at once.
func TestSendFileSendsParts(t *testing.T) {
	body, file := fileOf(t, 3<<20)
	var wait sync.WaitGroup
	for i := range 16 {
		offset, length := int64(i*100_001), int64(1<<20+i)
		conn, client := connected(t, i%4 == 3, time.Minute)
		wait.Go(func() {
			for range 2 { // the second response of a connection is like the first
				if _, err := conn.SendFile([]byte("h"), file, offset, length); err != nil {
					t.Error(err)
				}
			}
			_ = conn.Close()
		})
		wait.Go(func() {
			got, _ := io.ReadAll(client)
			one := append([]byte("h"), body[offset:offset+length]...)
			if want := append(one, one...); sha256.Sum256(got) != sha256.Sum256(want) {
				t.Errorf("reader %d: got %d other bytes than the %d that it should", i, len(got), len(want))
			}
		})
	}
	wait.Wait()
}

// A file that is shorter than was said, or can't be read, is another error than a client that has gone.
func TestSendFileTellsFileFromClient(t *testing.T) {
	body, file := fileOf(t, 1<<20)
	closed, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	dir, err := os.Open(filepath.Dir(file.Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, s := range senders()[1:] {
		for name, c := range map[string]struct {
			file *os.File
			more int64
			gone bool
		}{
			"short": {file: file, more: 1}, "closed": {file: closed}, "not a file": {file: dir},
			"client gone": {file: file, gone: true},
		} {
			conn, client := connected(t, s.hide, time.Minute)
			if c.gone {
				_ = client.SetLinger(0)
				_ = client.Close()
			} else {
				go func() { _, _ = io.Copy(io.Discard, client) }()
			}
			_, err := conn.SendFile([]byte("h"), c.file, 0, int64(len(body))+c.more)
			if err == nil || errors.Is(err, guard.ErrFile) == c.gone {
				t.Errorf("%s, %s: got %v", s.name, name, err)
			}
			conn.Break()
		}
	}
}

// A file costs no allocation, once a connection has sent one.
func TestSendFileAllocatesNothing(t *testing.T) {
	_, file := fileOf(t, 64<<10)
	conn, client := connected(t, false, time.Minute)
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, client) }()
	head := []byte("head")
	if n := testing.AllocsPerRun(50, func() {
		if _, err := conn.SendFile(head, file, 0, 64<<10); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	_ = conn.Close()
	<-drained
}
