package bench_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hitLoad is the load of a cache: the same request over and over. The response must have this body.
type hitLoad struct {
	path string
	body []byte
}

// send sends n requests over all connections, compares every response, and returns the latencies of the correct ones.
func (l hitLoad) send(tb testing.TB, url string, n int) []time.Duration {
	tb.Helper()
	var next atomic.Int64
	var mu sync.Mutex // guards took
	took := make([]time.Duration, 0, n)
	var wait sync.WaitGroup
	for range min(connections, n) {
		wait.Go(func() {
			mine, err := l.client(strings.TrimPrefix(url, "http://"), func() bool { return next.Add(1) <= int64(n) })
			if err != nil {
				tb.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wait.Wait()
	return took
}

// client sends over one connection while more returns true.
func (l hitLoad) client(addr string, more func() bool) (took []time.Duration, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	in := bufio.NewReaderSize(c, len(l.body)+4096)
	request := []byte("GET " + l.path + " HTTP/1.1\r\n" + requestHeader)
	for more() {
		begun := time.Now()
		if _, err := c.Write(request); err != nil {
			return took, err
		}
		if err := l.check(in); err != nil {
			return took, err
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// check reads one response, with little CPU time: the load runs on the same machine. The body is compared inside the
// buffer.
func (l hitLoad) check(in *bufio.Reader) error {
	status, length, err := readHead(in)
	if err != nil {
		return err
	}
	if status != 200 || length != len(l.body) {
		return fmt.Errorf("status %d with %d bytes, want 200 with %d", status, length, len(l.body))
	}
	got, err := in.Peek(length)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, l.body) {
		return fmt.Errorf("another body of %d bytes than the origin's", length)
	}
	_, err = in.Discard(length)
	return err
}

// readHead reads a response up to its body. length is -1 if it isn't given.
func readHead(in *bufio.Reader) (status, length int, err error) {
	length = -1
	for line := 0; ; line++ {
		b, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return 0, 0, err
		case line == 0 && len(b) < 12:
			return 0, 0, fmt.Errorf("the response begins with %q", b)
		case line == 0:
			status, err = strconv.Atoi(string(b[9:12]))
		case len(b) == 2:
			return status, length, nil
		case bytes.HasPrefix(b, []byte("Content-Length: ")):
			length, err = strconv.Atoi(string(b[16 : len(b)-2]))
		}
		if err != nil {
			return 0, 0, err
		}
	}
}
