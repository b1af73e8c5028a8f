// A member of the service hello: NATS_URL=$(cat millrace-data/client.url) go run ./mesh/_examples/go
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// hello is your part: an ordinary HTTP handler. Its context ends when nobody waits any more.
func hello(w http.ResponseWriter, r *http.Request) {
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait") + "ms"); err == nil {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
	}
	body, _ := io.ReadAll(r.Body) // from memory
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service": "hello", "member": os.Getpid(), "method": r.Method,
		"path": r.URL.Path, "body": string(body),
	})
}

func main() {
	nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.MaxReconnects(-1))
	check(err)
	limit, err := strconv.Atoi(os.Getenv("LIMIT")) // requests that run at once
	if err != nil {
		limit = 100
	}
	slots, running := make(chan struct{}, limit), sync.WaitGroup{}
	requests, err := nc.QueueSubscribe("http.hello", "q", func(msg *nats.Msg) {
		select {
		case slots <- struct{}{}:
			running.Go(func() { answer(msg); <-slots })
		default: // at the limit: the caller asks another member
			_ = msg.RespondMsg(&nats.Msg{Header: nats.Header{"Millrace-Busy": {"1"}}})
		}
	})
	check(err)
	_, err = nc.Subscribe("cancel.http.hello", func(msg *nats.Msg) {
		if cancel, ok := calls.Load(string(msg.Data)); ok {
			cancel.(context.CancelFunc)()
		}
	})
	check(err)
	left := make(chan struct{})
	requests.SetClosedHandler(func(string) { close(left) })
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	check(requests.Drain()) // leave the group, finish what runs, go
	<-left
	running.Wait()
	check(nc.Flush())
}

var calls sync.Map // nonce -> context.CancelFunc of running requests

// answer handles an HTTP/1.1 request message and sends an HTTP/1.1 response message.
func answer(msg *nats.Msg) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(msg.Data)))
	if err != nil {
		_ = msg.Respond([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		return
	}
	left, _ := strconv.Atoi(req.Header.Get("Millrace-Deadline")) // milliseconds
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(left)*time.Millisecond)
	nonce := req.Header.Get("Millrace-Nonce")
	calls.Store(nonce, cancel)
	defer func() { cancel(); calls.Delete(nonce) }()
	w, out := httptest.NewRecorder(), bytes.Buffer{} // a response in memory
	hello(w, req.WithContext(ctx))
	resp := w.Result()
	resp.ContentLength = int64(w.Body.Len())
	if _ = resp.Write(&out); ctx.Err() == nil {
		_ = msg.Respond(out.Bytes())
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
