package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
	"millrace/node/nodetest"
)

func request(method, target string, timeout time.Duration) *mesh.Request {
	return &mesh.Request{Method: method, Target: target, Host: "a.test", Deadline: time.Now().Add(timeout)}
}

func wantCode(t *testing.T, err error, code node.Code) {
	t.Helper()
	if node.CodeOf(err) != code {
		t.Fatalf("error is %v, want code %s", err, code)
	}
}

// subscribe is a member that speaks the wire protocol itself.
func subscribe(t *testing.T, url, subject string, handler nats.MsgHandler) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.QueueSubscribe(subject, mesh.QueueGroup, handler); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return nc
}

func TestDo(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	serve(t, c, "echo", 0, func(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > 5*time.Second {
			return nil, errors.New("handler has no deadline")
		}
		return &mesh.Response{
			Status: 201, Header: mesh.Header{{Name: "X-Target", Value: r.Target}}, Body: r.Body,
			Member: "m1",
		}, nil
	})
	req := request("POST", "/a?b=c", 5*time.Second)
	req.Body = []byte("body")
	resp, err := c.Do(t.Context(), c.Service("echo"), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != 201 || string(resp.Body) != "body" || resp.Header.Get("x-target") != "/a?b=c" ||
		resp.Member != "m1" {
		t.Errorf("got %+v", resp)
	}
	if c.InFlight() != 0 {
		t.Errorf("%d requests still in flight", c.InFlight())
	}
}

func TestNoMember(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	begin := time.Now()
	_, err := c.Do(t.Context(), c.Service("nobody"), request("GET", "/", time.Minute))
	wantCode(t, err, node.CodeNoMember)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s; no responders must be told at once", took)
	}
}

func TestTimeout(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	ended := make(chan error, 4)
	serve(t, c, "slow", 0, func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	_, err := c.Do(t.Context(), c.Service("slow"), request("POST", "/", 50*time.Millisecond))
	wantCode(t, err, node.CodeTimeout)
	if e := <-ended; e == nil {
		t.Error("the member's context didn't end")
	}
}

// When a caller goes away, the member's request is canceled.
func TestCancelStopsMember(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	started, ended := make(chan struct{}, 1), make(chan error, 1)
	serve(t, c, "slow", 0, func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		started <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	_, err := c.Do(ctx, c.Service("slow"), request("POST", "/", time.Minute))
	wantCode(t, err, node.CodeCanceled)
	if e := <-ended; !errors.Is(e, context.Canceled) {
		t.Errorf("the member's context ended with %v", e)
	}
	if c.InFlight() != 0 {
		t.Errorf("%d requests still in flight", c.InFlight())
	}
}

// A cancellation that arrives before its request cancels it nevertheless.
func TestCancelBeforeRequest(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	ended := make(chan error, 1)
	serve(t, c, "slow", 0, func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	nc := c.NATS()
	for i := range 3 { // the second is another's
		if err := nc.Publish("cancel.http.slow", fmt.Append(nil, "early-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const text = "GET / HTTP/1.1\r\nHost: h\r\nMillrace-Wire: 1\r\nMillrace-Deadline: 60000\r\n" +
		"Millrace-Nonce: %s\r\n\r\n"
	// the cancellation may not have come yet
	nodetest.Eventually(t, "a request that was canceled before it came ends", func() bool {
		if err := nc.PublishRequest("http.slow", nats.NewInbox(), fmt.Appendf(nil, text, "early-1")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			return errors.Is(err, context.Canceled)
		case <-time.After(time.Second):
			return false
		}
	})
}

// One of two members died while it worked and never answers: a GET is answered by the other member, a POST runs once.
func TestSecondTryAfterMemberDies(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			s := natsservertest.Start(t)
			c := natsservertest.Connect(t, s)
			var runs atomic.Int64
			var once sync.Once
			for range 2 {
				var self atomic.Pointer[nats.Conn]
				self.Store(subscribe(t, s.ClientURL(), "http.m", func(msg *nats.Msg) {
					runs.Add(1)
					dead := false
					once.Do(func() { dead = true })
					if dead {
						go self.Load().Close()
						return
					}
					_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nalive"))
				}))
			}
			begin := time.Now()
			resp, err := c.Do(t.Context(), c.Service("m"), request(method, "/", time.Second))
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %s, far beyond the deadline", took)
			}
			if method == "GET" {
				if err != nil || string(resp.Body) != "alive" || runs.Load() != 2 {
					t.Errorf("got %v, %v after %d runs", resp, err, runs.Load())
				}
				return
			}
			wantCode(t, err, node.CodeTimeout)
			if runs.Load() != 1 {
				t.Errorf("the POST ran %d times", runs.Load())
			}
		})
	}
}

// A repeatable request whose member is slow but alive gets that member's answer.
func TestSlowMemberStillAnswers(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	var runs atomic.Int64
	release := make(chan struct{})
	serve(t, c, "slow", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		if runs.Add(1) == 2 {
			close(release) // the second try has begun: let the first answer and the second wait
			return nil, node.Errorf(node.CodeBusy, nil, "not me")
		}
		<-release
		return &mesh.Response{Status: 200, Body: []byte("first")}, nil
	})
	resp, err := c.Do(t.Context(), c.Service("slow"), request("GET", "/", 2*time.Second))
	if err != nil || string(resp.Body) != "first" {
		t.Fatalf("got %v, %v", resp, err)
	}
}

// A member at its limit refuses at once. The caller finds another one or gets an error.
func TestBusyMembers(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	block := make(chan struct{})
	var running atomic.Int64
	wait := func(context.Context, *mesh.Request) (*mesh.Response, error) {
		running.Add(1)
		<-block
		return &mesh.Response{Status: 200}, nil
	}
	serve(t, c, "b", 2, wait)
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := c.Do(t.Context(), c.Service("b"), request("POST", "/", 10*time.Second))
			errs <- err
		}()
	}
	nodetest.Eventually(t, "two requests run", func() bool { return running.Load() == 2 })
	begin := time.Now()
	_, err := c.Do(t.Context(), c.Service("b"), request("POST", "/", 10*time.Second))
	wantCode(t, err, node.CodeBusy)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("the refusal took %s", took)
	}
	close(block)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	nodetest.Eventually(t, "the member has room again", func() bool {
		_, err := c.Do(t.Context(), c.Service("b"), request("POST", "/", time.Second))
		return err == nil
	})
	if got := running.Load(); got < 3 {
		t.Errorf("%d requests ran", got)
	}
}

// A member runs its requests concurrently: none waits for a slow one.
func TestMemberRunsRequestsConcurrently(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	const n = 100
	var arrived sync.WaitGroup
	arrived.Add(n)
	serve(t, c, "all", n, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		arrived.Done()
		arrived.Wait() // answers only when all run at once
		return &mesh.Response{Status: 200}, nil
	})
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := c.Do(t.Context(), c.Service("all"), request("POST", "/", 20*time.Second))
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func TestHandlerPanics(t *testing.T) {
	var log logBuffer
	c := natsservertest.Connect(t, natsservertest.Start(t), func(cfg *mesh.Config) { cfg.Log = log.logger() })
	serve(t, c, "p", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) { panic("secret") })
	_, err := c.Do(t.Context(), c.Service("p"), request("GET", "/", 5*time.Second))
	wantCode(t, err, node.CodeInternal)
	if strings.Contains(err.Error(), "secret") || !log.has("handler panicked", "service=http.p", "secret") {
		t.Errorf("the caller got %v", err)
	}
}

// An invalid reply is reported as bad_reply, counted, and logged with the service and the member. None of it reaches
// the caller.
func TestInvalidReplies(t *testing.T) {
	s := natsservertest.Start(t)
	var log logBuffer
	c := natsservertest.Connect(t, s, func(cfg *mesh.Config) { cfg.Log = log.logger() })
	subscribe(t, s.ClientURL(), "http.broken", func(msg *nats.Msg) {
		reply := nats.NewMsg(msg.Reply)
		reply.Header.Set("Millrace-Member", "box-7")
		reply.Data = []byte("HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\nraw")
		if strings.HasPrefix(string(msg.Data), "GET /large") {
			reply.Data = []byte("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", mesh.MaxBody+1))
		}
		_ = msg.RespondMsg(reply)
	})
	for _, target := range []string{"/raw", "/large"} {
		resp, err := c.Do(t.Context(), c.Service("broken"), request("GET", target, 5*time.Second))
		wantCode(t, err, node.CodeBadReply)
		if resp != nil {
			t.Errorf("%s: the caller got %+v", target, resp)
		}
	}
	st := stats(c, "http.broken")
	if st.Malformed != 1 || st.Oversize != 1 {
		t.Errorf("counted %+v", st)
	}
	if !log.has("invalid reply", "service=http.broken", "member=box-7") {
		t.Error("the log doesn't name service and member")
	}
}

// The log says what to change about an invalid reply, once for all that follow.
func TestInvalidRepliesAreExplained(t *testing.T) {
	s := natsservertest.Start(t)
	for name, c := range map[string]struct{ reply, hint string }{
		"lf":      {"HTTP/1.1 200 OK\nContent-Type: text/plain\n\nhi", "LF alone"},
		"lf-line": {"HTTP/1.1 200 OK\r\nContent-Type: text/plain\nX: y\r\n\r\nhi", "LF alone"},
		"lf-end":  {"HTTP/1.1 200 OK\r\n\nhi", "LF alone"},
		"json":    {"{\"id\": 7}", "JSON without an HTTP head"},
		"list":    {"\n[1, 2]\n", "JSON without an HTTP head"},
		"text":    {"hello", "no HTTP head"},
		"empty":   {"", "it is empty"},
		"endless": {"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nhi", "no end"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			conn := natsservertest.Connect(t, s, func(cfg *mesh.Config) { cfg.Log = log.logger() })
			subscribe(t, s.ClientURL(), "http."+name, func(msg *nats.Msg) { _ = msg.Respond([]byte(c.reply)) })
			for range 20 {
				_, err := conn.Do(t.Context(), conn.Service(name), request("POST", "/", 20*time.Second))
				wantCode(t, err, node.CodeBadReply)
			}
			if !log.has("invalid reply", "service=http."+name, c.hint) {
				t.Errorf("the log has no hint: %s", log.String())
			}
			if strings.Contains(log.String(), "member=") {
				t.Errorf("a member that nobody knows is named: %s", log.String())
			}
			if n := strings.Count(log.String(), "invalid reply"); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	}
}

func stats(c *mesh.Conn, label string) mesh.Stats {
	for _, s := range c.Stats() {
		if s.Label == label {
			return s
		}
	}
	return mesh.Stats{}
}

// Second and late replies are dropped and counted. A second one, from a member outside the group, is logged as a
// warning.
func TestSecondAndLateReplies(t *testing.T) {
	s := natsservertest.Start(t)
	var log logBuffer
	c := natsservertest.Connect(t, s, func(cfg *mesh.Config) { cfg.Log = log.logger() })
	other := natsservertest.Connect(t, s) // members can't leave their group, but a node can: it plays the stray one
	for _, group := range []string{"q", "another"} {
		if _, err := other.NATS().QueueSubscribe("http.twice", group, func(msg *nats.Msg) {
			_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nonce"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	late := make(chan *nats.Msg, 1)
	subscribe(t, s.ClientURL(), "http.late", func(msg *nats.Msg) { late <- msg })
	if err := other.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(t.Context(), c.Service("twice"), request("POST", "/", 5*time.Second))
	if err != nil || string(resp.Body) != "once" {
		t.Fatalf("got %v, %v", resp, err)
	}
	nodetest.Eventually(t, "the second reply is counted", func() bool {
		return stats(c, "http.twice").Duplicate == 1
	})
	nodetest.Eventually(t, "the second reply is warned about", func() bool {
		return log.has("answered twice", "service=http.twice")
	})

	_, err = c.Do(t.Context(), c.Service("late"), request("POST", "/", 30*time.Millisecond))
	wantCode(t, err, node.CodeTimeout)
	if err := (<-late).Respond([]byte("HTTP/1.1 200 OK\r\n\r\nlate")); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the late reply is counted", func() bool { return stats(c, "http.late").Late == 1 })
	nodetest.Eventually(t, "the late reply is logged", func() bool {
		return log.has("nobody waited", "service=http.late")
	})
}

// A reply or request whose head doesn't fit a message fails at once, not by a timeout.
func TestOversizedHeads(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	huge := mesh.Field{Name: "X", Value: strings.Repeat("x", 700<<10)}
	serve(t, c, "huge", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 200, Header: mesh.Header{huge}, Body: make([]byte, mesh.MaxBody)}, nil
	})
	begin := time.Now()
	_, err := c.Do(t.Context(), c.Service("huge"), request("POST", "/", 20*time.Second))
	wantCode(t, err, node.CodeUpstream)
	req := request("POST", "/", 20*time.Second)
	req.Header, req.Body = mesh.Header{huge}, make([]byte, mesh.MaxBody)
	_, err = c.Do(t.Context(), c.Service("huge"), req)
	wantCode(t, err, node.CodeHeaderTooLarge)
	req = request("POST", "/", 20*time.Second)
	req.Header = make(mesh.Header, http1.MaxFields)
	for i := range req.Header {
		req.Header[i].Name = "X"
	}
	_, err = c.Do(t.Context(), c.Service("huge"), req)
	wantCode(t, err, node.CodeHeaderTooLarge)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// A service can be closed, and isn't opened again.
func TestServiceOpenFails(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	s, err := c.NewService(mesh.ServiceConfig{Destination: c.Service("z"), Handler: mesh.HandlerFunc(hello)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Open(ctx); err == nil {
		t.Error("opened with a canceled context")
	}
	if err := s.Open(t.Context()); err == nil {
		t.Error("opened after it was closed")
	}
	_, err = c.Do(t.Context(), c.Service("z"), request("POST", "/", 5*time.Second))
	wantCode(t, err, node.CodeNoMember)
}

// Concurrent requests never see each other's bytes, whatever members and callers keep.
func TestConcurrentRequestsStaySeparate(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	var kept sync.Map
	serve(t, c, "mix", 1000, func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
		kept.Store(r.Target, r)
		return &mesh.Response{
			Status: 200, Header: mesh.Header{{Name: "X-Target", Value: r.Target}},
			Body: []byte(r.Target + string(r.Body)),
		}, nil
	})
	const clients, each = 32, 50
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			var answers []*mesh.Response
			for j := range each {
				req := request("POST", fmt.Sprintf("/%d/%d", i, j), 20*time.Second)
				req.Body = []byte(strings.Repeat(strconv.Itoa(i%10), j*10))
				resp, err := c.Do(t.Context(), c.Service("mix"), req)
				if err != nil {
					t.Error(err)
					return
				}
				answers = append(answers, resp)
			}
			for j, resp := range answers {
				target := fmt.Sprintf("/%d/%d", i, j)
				if resp.Header.Get("X-Target") != target ||
					string(resp.Body) != target+strings.Repeat(strconv.Itoa(i%10), j*10) {
					t.Errorf("answer to %s holds something else", target)
				}
			}
		})
	}
	wg.Wait()
	kept.Range(func(k, v any) bool {
		if r := v.(*mesh.Request); r.Target != k.(string) || r.Host != "a.test" {
			t.Errorf("request kept as %s became %s", k, r.Target)
		}
		return true
	})
}

// The connection survives a restart of the server: waiting calls fail at once, and later ones work.
func TestServerRestart(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	entered := make(chan struct{}, 1)
	serve(t, c, "r", 0, func(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
		if r.Target == "/wait" {
			entered <- struct{}{}
			<-ctx.Done()
		}
		return &mesh.Response{Status: 200}, nil
	})
	failed := make(chan error, 1)
	go func() {
		_, err := c.Do(t.Context(), c.Service("r"), request("POST", "/wait", 20*time.Second))
		failed <- err
	}()
	<-entered
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-failed, node.CodeUnavailable)
	nodetest.Eventually(t, "requests are answered again", func() bool {
		_, err := c.Do(t.Context(), c.Service("r"), request("GET", "/", time.Second))
		return err == nil
	})
}

// A service that shuts down answers everything it got.
func TestShutdownAnswersEverything(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	stays := natsservertest.Connect(t, s)
	answer := func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
		return &mesh.Response{Status: 200}, ctx.Err()
	}
	serve(t, stays, "d", 10_000, answer)
	leaves := serve(t, c, "d", 10_000, answer)
	stop := make(chan struct{})
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := stays.Do(t.Context(), stays.Service("d"),
					request("POST", "/", 10*time.Second)); err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	nodetest.Eventually(t, "requests flow", func() bool { return done.Load() > 200 })
	if err := leaves.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	before := done.Load()
	nodetest.Eventually(t, "requests flow on", func() bool {
		return done.Load() > before+200 || failed.Load() > 0
	})
	close(stop)
	wg.Wait()
}

func TestPlain(t *testing.T) {
	s := natsservertest.Start(t)
	s.SetMemberSubjects([]string{"orders.get.*"})
	c := natsservertest.Connect(t, s)
	subscribe(t, s.ClientURL(), "orders.get.*", func(msg *nats.Msg) {
		reply := nats.NewMsg(msg.Reply)
		switch msg.Subject {
		case "orders.get.1":
			reply.Data = fmt.Appendf(nil, `{"accept":%q,"cookie":%q,"body":%q}`, msg.Header.Get("Accept"),
				msg.Header.Get("Cookie"), msg.Data)
		case "orders.get.2":
			reply.Header.Set("Nats-Service-Error-Code", "404")
			reply.Header.Set("Nats-Service-Error", "no such order")
			reply.Data = []byte("gone")
		case "orders.get.3":
			reply.Header.Set("Nats-Service-Error-Code", "77")
		}
		_ = msg.RespondMsg(reply)
	})
	ask := func(id string) (*mesh.Response, error) {
		req := request("POST", "/orders/"+id, 5*time.Second)
		req.Header = mesh.Header{
			{Name: "accept", Value: "x/y"},
			{Name: "Cookie", Value: "secret"},
			{Name: "Nats-Rollup", Value: "all"},
		}
		req.Body = []byte("hi")
		return c.DoPlain(t.Context(), "orders.get."+id, req, mesh.DefaultForwardHeaders)
	}
	resp, err := ask("1")
	if err != nil || resp.Status != 200 || string(resp.Body) != `{"accept":"x/y","cookie":"","body":"hi"}` ||
		resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %+v, %v", resp, err)
	}
	resp, err = ask("2")
	if err != nil || resp.Status != 404 || string(resp.Body) != "gone" {
		t.Errorf("got %+v, %v", resp, err)
	}
	_, err = ask("3")
	wantCode(t, err, node.CodeBadReply)
	_, err = c.DoPlain(t.Context(), "nobody.here", request("GET", "/", time.Minute), nil)
	wantCode(t, err, node.CodeNoMember)
}

// Plain services may be in no queue group or in their own: each gets the request, and the first answer counts.
func TestPlainServicesInAnyGroup(t *testing.T) {
	s := natsservertest.Start(t)
	s.SetMemberSubjects([]string{"orders.get.*"})
	c := natsservertest.Connect(t, s)
	var got sync.WaitGroup
	got.Add(3)
	for _, queue := range []string{"", "workers", "q"} {
		nc, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if _, err := nc.QueueSubscribe("orders.get.*", queue, func(msg *nats.Msg) {
			_ = msg.Respond([]byte("order"))
			got.Done()
		}); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := c.DoPlain(t.Context(), "orders.get.7", request("GET", "/", 20*time.Second), nil)
	if err != nil || string(resp.Body) != "order" {
		t.Fatalf("got %v, %v", resp, err)
	}
	got.Wait()
}

// Events are built and sent only while somebody listens, with the embedded server and with others.
func TestEvents(t *testing.T) {
	s := natsservertest.Start(t)
	for name, change := range map[string]func(*mesh.Config){
		"interest": func(*mesh.Config) {},
		"silence":  func(cfg *mesh.Config) { cfg.Interest = nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := natsservertest.Connect(t, s, change)
			subject := "event.http." + name + ".2xx"
			var built atomic.Int64
			emit := func() { c.Emit(subject, func() []byte { built.Add(1); return []byte("{}") }) }
			emit()
			if err := c.NATS().Flush(); err != nil {
				t.Fatal(err)
			}
			nodetest.Eventually(t, "nothing is built while nobody listens", func() bool {
				before := built.Load()
				emit()
				return built.Load() == before
			})
			watcher, err := nats.Connect(s.ClientURL())
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Close()
			var seen atomic.Int64
			if _, err := watcher.Subscribe("event.>", func(*nats.Msg) { seen.Add(1) }); err != nil {
				t.Fatal(err)
			}
			nodetest.Eventually(t, "events arrive", func() bool { emit(); return seen.Load() > 3 })
		})
	}
}

func TestCheck(t *testing.T) {
	s := natsservertest.Start(t)
	if err := natsservertest.Connect(t, s).Check(t.Context()); err != nil {
		t.Error(err)
	}
	member, err := mesh.New(mesh.Config{Name: "x", URL: s.ClientURL(), Log: nodetest.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Open(t.Context()); err == nil { // a member may not even have an inbox like a node's
		defer member.Close()
		if err := member.Check(t.Context()); err == nil {
			t.Error("a member's credential passed as a node's")
		}
	}
}

// A destination that doesn't answer gets each request once, and only a few of them again.
func TestSecondTryBudget(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t), func(c *mesh.Config) { c.Local = node.LocalNATS })
	var got atomic.Int64
	serve(t, c, "slow", 1000, func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		got.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	const requests = 100
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			_, err := c.Do(t.Context(), c.Service("slow"), request("GET", "/", 500*time.Millisecond))
			if node.CodeOf(err) != node.CodeTimeout {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if extra := got.Load() - requests; extra < 1 || extra > requests/5+10 {
		t.Errorf("%d requests arrived %d times", requests, got.Load())
	}
}

// Unknown failure types that a member reports are dropped.
func TestUnknownFailureTypesAreDropped(t *testing.T) {
	s := natsservertest.Start(t)
	conn := natsservertest.Connect(t, s)
	types := map[string]node.Failure{
		"connection_refused": node.FailureRefused, "made_up": "", "connection_refused; x=y": "",
	}
	subscribe(t, s.ClientURL(), "http.fails", func(msg *nats.Msg) {
		_, said, _ := strings.Cut(string(msg.Data), "\r\n\r\n")
		h := nats.Header{"Millrace-Error": {"upstream_failed"}, "Millrace-Failure": {said}}
		_ = msg.RespondMsg(&nats.Msg{Header: h})
	})
	for said, want := range types {
		req := request("POST", "/", 20*time.Second)
		req.Body = []byte(said)
		_, err := conn.Do(t.Context(), conn.Service("fails"), req)
		if e, ok := errors.AsType[*node.Error](err); !ok || e.Code != node.CodeUpstream || e.Failure != want {
			t.Errorf("%s: got %+v", said, err)
		}
	}
}
