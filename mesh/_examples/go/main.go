// Command go is a member of the Millrace service hello with nothing but nats.go:
//
//	NATS_URL=$(cat millrace-data/client.url) go run ./mesh/_examples/go
//
// It serves an ordinary http.Handler, up to a limit, honours deadlines and cancellations, and drops nothing when it is
// told to end. NATS_URL names the node when the command line doesn't, LIMIT the requests that run at once.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const service = "hello"

// hello is your part. The request's context tells when nobody waits any more.
func hello(w http.ResponseWriter, r *http.Request) {
	if d, err := time.ParseDuration(r.URL.Query().Get("wait") + "ms"); err == nil {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body can't be read", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // writes to memory
		"service": service, "member": os.Getpid(), "method": r.Method, "path": r.URL.Path, "body": string(body),
	})
}

func main() {
	url := os.Getenv("NATS_URL")
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	limit, err := strconv.Atoi(os.Getenv("LIMIT"))
	if err != nil {
		limit = 100
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, url, limit); err != nil {
		fmt.Fprintln(os.Stderr, "member:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// serve answers requests until ctx ends. Then it leaves the group, finishes what runs, and returns.
func serve(ctx context.Context, url string, limit int) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1)) // nats.go finds the token in the URL
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	m := member{handler: http.HandlerFunc(hello), slots: make(chan struct{}, limit), calls: map[string]context.CancelFunc{}}
	requests, err := nc.QueueSubscribe("http."+service, "q", m.admit)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	drained := make(chan struct{})
	requests.SetClosedHandler(func(string) { close(drained) })
	if _, err := nc.Subscribe("cancel.http."+service, m.cancel); err != nil {
		return fmt.Errorf("subscribe to cancellations: %w", err)
	}
	<-ctx.Done()
	if err := requests.Drain(); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	<-drained
	m.running.Wait()
	return nc.FlushTimeout(5 * time.Second)
}

// member answers the requests of one subscription.
type member struct {
	handler http.Handler
	slots   chan struct{} // one for each request that runs; nobody closes it, and nobody waits for room in it
	running sync.WaitGroup

	mu    sync.Mutex
	calls map[string]context.CancelFunc // what runs, by nonce; guarded by mu
}

// admit must not block: requests wait behind it. One that is too many is refused, and another member gets it.
func (m *member) admit(msg *nats.Msg) {
	select {
	case m.slots <- struct{}{}:
		m.running.Go(func() {
			defer func() { <-m.slots }()
			m.answer(msg)
		})
	default:
		_ = msg.RespondMsg(&nats.Msg{Header: nats.Header{"Millrace-Busy": {"1"}}}) // a lost refusal is a late answer
	}
}

// answer reads an HTTP/1.1 request message, lets the handler answer, and sends an HTTP/1.1 response message.
func (m *member) answer(msg *nats.Msg) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(msg.Data)))
	if err != nil {
		_ = msg.Respond([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		return
	}
	left, _ := strconv.Atoi(req.Header.Get("Millrace-Deadline")) // milliseconds
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(left)*time.Millisecond)
	defer m.track(req.Header.Get("Millrace-Nonce"), cancel)()
	w := &response{header: http.Header{}}
	m.call(w, req.WithContext(ctx))
	if ctx.Err() != nil {
		return // nobody waits for an answer
	}
	if err := msg.Respond(w.message()); err != nil {
		slog.Error("answer", "cause", err) //nolint:sloglint // an example has one logger
	}
}

func (m *member) call(w *response, req *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("handler panicked", "panic", p) //nolint:sloglint // an example has one logger
			*w = response{header: http.Header{}, status: http.StatusInternalServerError}
		}
	}()
	m.handler.ServeHTTP(w, req)
}

// track remembers a request until the function that it returns is called.
func (m *member) track(nonce string, cancel context.CancelFunc) (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[nonce] = cancel
	return func() {
		cancel()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.calls, nonce)
	}
}

// cancel ends the request whose nonce is the payload.
func (m *member) cancel(msg *nats.Msg) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cancel := m.calls[string(msg.Data)]; cancel != nil {
		cancel()
	}
}

// response is what a handler writes, kept in memory.
type response struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// message writes the response as one HTTP/1.1 message. Its length is that of the payload.
func (w *response) message() []byte {
	w.WriteHeader(http.StatusOK)
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", w.status, http.StatusText(w.status))
	_ = w.header.Write(&out) // memory
	out.WriteString("\r\n")
	if w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		out.Write(w.body.Bytes())
	}
	return out.Bytes()
}
