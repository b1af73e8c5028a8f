package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// soon is far less than the deadline of the calls below, and far more than any of them should take.
const soon = 40 * time.Second

// timely fails the test if the time until done is called comes near a deadline.
func timely(t *testing.T, what string) (done func()) {
	t.Helper()
	begun := time.Now()
	return func() {
		t.Helper()
		if took := time.Since(begun); took > soon {
			t.Errorf("%s took %s", what, took)
		}
	}
}

// dyingMember is a member that dies with the first request it gets.
func dyingMember(t *testing.T, url, subject string) {
	t.Helper()
	var self atomic.Pointer[nats.Conn]
	self.Store(subscribe(t, url, subject, func(*nats.Msg) { go self.Load().Close() }))
}

// The only member dies with a request: the caller learns it, on its node and on another.
func TestOnlyMemberDies(t *testing.T) {
	servers := natsservertest.StartThree(t)
	for i, s := range servers[:2] {
		c := natsservertest.Connect(t, s)
		natsservertest.Connect(t, servers[0]) // the member's node announces it
		for _, method := range []string{"GET", "POST"} {
			t.Run(fmt.Sprint(method, " from node ", i+1), func(t *testing.T) {
				defer timely(t, "the answer")()
				name := fmt.Sprint("m", i, method)
				dyingMember(t, servers[0].ClientURL(), "http."+name)
				nodetest.Eventually(t, "the member is known", func() bool { return s.Anybody("http." + name) })
				_, err := c.Do(t.Context(), c.Service(name), request(method, "/", 5*time.Minute))
				wantCode(t, err, node.CodeUpstream)
			})
		}
	}
	if n := natsservertest.Connect(t, servers[0]).InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// One of several members dies with a GET: another member is asked at once.
func TestOneOfSeveralMembersDies(t *testing.T) {
	defer timely(t, "the answer")()
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	var once sync.Once
	for range 3 {
		var self atomic.Pointer[nats.Conn]
		self.Store(subscribe(t, s.ClientURL(), "http.m", func(msg *nats.Msg) {
			dead := false
			once.Do(func() { dead = true })
			if dead {
				go self.Load().Close()
				return
			}
			_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nalive"))
		}))
	}
	resp, err := c.Do(t.Context(), c.Service("m"), request("GET", "/", 5*time.Minute))
	if err != nil || string(resp.Body) != "alive" {
		t.Errorf("got %v, %v", resp, err)
	}
}

// A reply counts even if its member dies right after it.
func TestReplyOfDeadMemberCounts(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	for i := range 50 {
		name := fmt.Sprint("m", i)
		var self atomic.Pointer[nats.Conn]
		self.Store(subscribe(t, s.ClientURL(), "http."+name, func(msg *nats.Msg) {
			if i%5 == 0 {
				<-time.After(150 * time.Millisecond) // until the call is registered as waiting
			}
			_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nlast words"))
			_ = self.Load().Flush()
			self.Load().Close()
		}))
		resp, err := c.Do(t.Context(), c.Service(name), request("POST", "/", 5*time.Minute))
		if err != nil || string(resp.Body) != "last words" {
			t.Fatalf("member %d: got %v, %v", i, resp, err)
		}
	}
}

// A member that has left its group and still runs requests keeps them when the last other member dies or leaves: it
// still subscribes to cancellations.
func TestDrainingMemberKeepsItsRequests(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	join := func(handler nats.MsgHandler) (*nats.Conn, *nats.Subscription) {
		nc, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		sub, err1 := nc.QueueSubscribe("http.d", "q", handler)
		_, err2 := nc.Subscribe("cancel.http.d", func(*nats.Msg) {})
		if err := errors.Join(err1, err2, nc.Flush()); err != nil {
			t.Fatal(err)
		}
		return nc, sub
	}
	got := make(chan *nats.Msg, 1)
	_, sub := join(func(msg *nats.Msg) { got <- msg })
	done := make(chan error, 1)
	go func() {
		_, err := c.Do(t.Context(), c.Service("d"), request("POST", "/", 5*time.Minute))
		done <- err
	}()
	msg := <-got
	if err := sub.Drain(); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "it has left", func() bool { return !s.Anybody("http.d") })
	for _, leaves := range []bool{true, false} {
		other, sub := join(func(*nats.Msg) {})
		if leaves {
			if err := errors.Join(sub.Unsubscribe(), other.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		other.Close()
		dyingMember(t, s.ClientURL(), "http.after") // announced after the other
		_, err := c.Do(t.Context(), c.Service("after"), request("POST", "/", 5*time.Minute))
		wantCode(t, err, node.CodeUpstream)
	}
	_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The death of one service's member affects neither calls of another service nor those that a local member runs.
func TestUnrelatedDeathsAreIgnored(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	release := make(chan struct{})
	serve(t, c, "here", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		<-release
		return &mesh.Response{Status: 200}, nil
	})
	subscribe(t, s.ClientURL(), "http.there", func(msg *nats.Msg) {
		<-release
		_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	})
	results := make(chan error, 2)
	for _, name := range []string{"here", "there"} {
		go func() {
			_, err := c.Do(t.Context(), c.Service(name), request("POST", "/", 5*time.Minute))
			results <- err
		}()
	}
	for i := range 3 {
		name := fmt.Sprint("dies", i)
		dyingMember(t, s.ClientURL(), "http."+name)
		_, err := c.Do(t.Context(), c.Service(name), request("POST", "/", 5*time.Minute))
		wantCode(t, err, node.CodeUpstream)
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// A plain NATS service that dies with a request fails the call too.
func TestPlainServiceDies(t *testing.T) {
	defer timely(t, "the answer")()
	s := natsservertest.Start(t)
	s.SetMemberSubjects([]string{"orders.get.*"})
	c := natsservertest.Connect(t, s)
	dyingMember(t, s.ClientURL(), "orders.get.*")
	_, err := c.DoPlain(t.Context(), "orders.get.1", request("POST", "/", 5*time.Minute), nil)
	wantCode(t, err, node.CodeUpstream)
}

// A member that dies with the head of a stream, or within one, ends the stream at once.
func TestStreamingMemberDies(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	endless := func() *mesh.Request {
		r, w := io.Pipe()
		t.Cleanup(func() { _ = w.Close() })
		go func() { _, _ = w.Write([]byte("some")) }()
		req := request("POST", "/", 5*time.Minute)
		req.Stream, req.Length = mesh.NewBody(r), -1
		return req
	}
	t.Run("before it takes the body", func(t *testing.T) {
		defer timely(t, "the answer")()
		dyingMember(t, s.ClientURL(), "http.before.stream")
		_, err := c.Do(t.Context(), c.Service("before"), endless())
		wantCode(t, err, node.CodeUpstream)
	})
	t.Run("as it takes the body", func(t *testing.T) {
		defer timely(t, "the answer")()
		nc, err := nats.Connect(s.ClientURL(), nats.Name("worker"), nats.CustomInboxPrefix("_INBOX_worker"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		inbox := nc.NewInbox()
		// It dies with the first bytes.
		if _, err := nc.Subscribe(inbox, func(*nats.Msg) { go nc.Close() }); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.QueueSubscribe("http.taking.stream", "q", func(msg *nats.Msg) {
			_ = nc.PublishMsg(&nats.Msg{
				Subject: msg.Reply, Reply: inbox,
				Header: nats.Header{"Millrace-Credit": {"65536"}},
			})
		}); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		_, err = c.Do(t.Context(), c.Service("taking"), endless())
		wantCode(t, err, node.CodeUpstream)
	})
	noStreamsLeft(t, c)
}

// sendHeartbeats sends the heartbeats of a node that the test simulates.
func sendHeartbeats(t *testing.T, c *mesh.Conn, id string, incarnation int) {
	t.Helper()
	beat := fmt.Appendf(nil, `{"id":%q,"name":%q,"version":"1","incarnation":%d}`, id, id, incarnation)
	if err := c.NATS().Publish("millrace.members", beat); err != nil {
		t.Fatal(err)
	}
}

// fakeNode is a node that takes requests for a subject, says which process runs them, and passes them to the test.
func fakeNode(t *testing.T, c *mesh.Conn, subject, run string) (taken chan *nats.Msg, leave func()) {
	t.Helper()
	taken = make(chan *nats.Msg, 10)
	sub, err := c.NATS().QueueSubscribe(subject, mesh.QueueGroup, func(msg *nats.Msg) {
		if run != "" {
			_ = msg.RespondMsg(&nats.Msg{Header: nats.Header{"Millrace-Interim": {"1"}, "Millrace-Running": {run}}})
		}
		taken <- msg
	})
	if err == nil {
		err = c.NATS().Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return taken, func() {
		if err := errors.Join(sub.Unsubscribe(), c.NATS().Flush()); err != nil {
			t.Error(err)
		}
	}
}

// takenCall is a call that a fakeNode took.
type takenCall struct {
	msg  *nats.Msg
	done chan error
}

// callFakeNode makes a call that a fakeNode takes.
func callFakeNode(t *testing.T, c, other *mesh.Conn, to mesh.Destination, method, run string,
) (a takenCall, leave func()) {
	t.Helper()
	taken, leave := fakeNode(t, other, to.Subject(), run)
	a.done = make(chan error, 1)
	go func() {
		defer timely(t, to.String())()
		_, err := c.Do(t.Context(), to, request(method, "/", 5*time.Minute))
		a.done <- err
	}()
	a.msg = <-taken
	return a, leave
}

// A node is lost with requests that it claimed to run. Repeatable ones are sent to another node, the others fail. What
// other nodes run isn't affected.
func TestLostNodeFailsItsRequests(t *testing.T) {
	s := natsservertest.Start(t)
	c, other := natsservertest.Connect(t, s), natsservertest.Connect(t, s)
	m := members(t, c, "n1", func(mesh.MemberEvent) {})
	openMembers(t, m)
	openMembers(t, members(t, other, "n2", func(mesh.MemberEvent) {}))
	sendHeartbeats(t, other, "lost", 35)
	nodetest.Eventually(t, "the nodes are known", func() bool { return len(m.List()) == 3 })

	fails := map[string]takenCall{}
	fails["upstream, POST"], _ = callFakeNode(t, c, other, c.Upstream("post"), "POST", "lost.z")
	fails["upstream, POST, the node hadn't said that it runs it"],
		_ = callFakeNode(t, c, other, c.Upstream("unsaid"), "POST", "")
	fails["that node itself"], _ = callFakeNode(t, c, other, c.Node("cache", "lost"), "GET", "")
	repeated, leave := callFakeNode(t, c, other, c.Upstream("get"), "GET", "lost.z")
	leave()
	second, _ := fakeNode(t, other, c.Upstream("get").Subject(), "n2.1")
	unharmed := map[string]takenCall{}
	unharmed["another node"], _ = callFakeNode(t, c, other, c.Upstream("alive"), "POST", "n2.1")
	unharmed["a service"], _ = callFakeNode(t, c, other, c.Service("any"), "POST", "")

	for what, a := range fails {
		if err := <-a.done; node.CodeOf(err) != node.CodeUpstream {
			t.Errorf("%s: %v", what, err)
		}
	}
	answer := []byte("HTTP/1.1 200 OK\r\n\r\n")
	again := <-second
	if !strings.Contains(string(again.Data), "Millrace-Again: 1") {
		t.Errorf("sent again as %q", again.Data)
	}
	_ = again.Respond(answer)
	if err := <-repeated.done; err != nil {
		t.Errorf("GET: %v", err)
	}
	_, err := c.Do(t.Context(), c.Node("cache", "lost"), request("GET", "/", 5*time.Minute))
	wantCode(t, err, node.CodeUnavailable)
	for what, a := range unharmed {
		_ = a.msg.Respond(answer)
		if err := <-a.done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A node is killed and restarts at once: what its old process ran is lost, what the new one runs isn't.
func TestRestartedNodeLosesOldRequests(t *testing.T) {
	s := natsservertest.Start(t)
	c, other := natsservertest.Connect(t, s), natsservertest.Connect(t, s)
	m := members(t, c, "n1", func(mesh.MemberEvent) {})
	openMembers(t, m)
	sendHeartbeats(t, other, "reborn", 35)
	nodetest.Eventually(t, "the node is known", func() bool { return len(m.List()) == 2 })
	before, leave := callFakeNode(t, c, other, c.Upstream("u"), "POST", "reborn.z")
	leave()
	after, _ := callFakeNode(t, c, other, c.Upstream("u"), "POST", "reborn.10")
	sendHeartbeats(t, other, "reborn", 36)
	if err := <-before.done; node.CodeOf(err) != node.CodeUpstream {
		t.Errorf("before: %v", err)
	}
	_ = after.msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	if err := <-after.done; err != nil {
		t.Errorf("after: %v", err)
	}
}

// A service of a node says that it runs a long request, and its caller gets the answer.
func TestLongRequestsNameTheirNode(t *testing.T) {
	s := natsservertest.Start(t)
	c, other := natsservertest.Connect(t, s), natsservertest.Connect(t, s)
	openMembers(t, members(t, other, "n2", func(mesh.MemberEvent) {}))
	told, release := make(chan *nats.Msg, 10), make(chan struct{})
	sub, err := c.NATS().Subscribe("_NODE_test.r.>", func(msg *nats.Msg) { told <- msg })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	serve(t, other, "slow", 0, func(context.Context, *mesh.Request) (*mesh.Response, error) {
		<-release
		return &mesh.Response{Status: 200}, nil
	})
	const text = "GET / HTTP/1.1\r\nHost: h\r\nMillrace-Wire: 1\r\nMillrace-Deadline: 60000\r\n" +
		"Millrace-Nonce: n\r\n\r\n"
	if err := c.NATS().PublishRequest("http.slow", "_NODE_test.r.1", []byte(text)); err != nil {
		t.Fatal(err)
	}
	if got := (<-told).Header.Get("Millrace-Running"); got != "n2.1" {
		t.Errorf("told %q", got)
	}
	close(release)
	if got := <-told; !strings.HasPrefix(string(got.Data), "HTTP/1.1 200") {
		t.Errorf("answered %q", got.Data)
	}
}

// covers matches subscriptions and subjects as the server does.
func TestCovers(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"http.a", "http.a", true},
		{"http.a", "http.b", false},
		{"http.a", "http.a.stream", false},
		{"http.a.stream", "http.a", false},
		{"http.*", "http.a", true},
		{"http.*", "http.a.stream", false},
		{"*.a", "http.a", true},
		{"*", "http", true},
		{"*", "http.a", false},
		{"http.>", "http.a", true},
		{"http.>", "http.a.stream", true},
		{"http.>", "http", false},
		{">", "http.a", true},
		{">", "", false},
		{"*.*.stream", "http.a.stream", true},
		{"a.>", "http.a", false},
		{"", "http.a", false},
		{"", "", false},
	} {
		if got := mesh.Covers(c.pattern, c.subject); got != c.want {
			t.Errorf("%q covers %q: %t", c.pattern, c.subject, got)
		}
	}
}
