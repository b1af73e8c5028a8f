package natsserver_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url,
		append(opts, nats.PermissionErrOnSubscribe(true),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// nodeConn connects with the node's credential.
func nodeConn(t *testing.T, s *natsserver.Server) *nats.Conn {
	t.Helper()
	user, password := s.NodeCredential()
	return connect(t, "nats://"+s.Addr(), nats.UserInfo(user, password))
}

// The server refuses each subscription that a member may not have, and allows each that it needs.
func TestMemberSubscriptions(t *testing.T) {
	s := natsservertest.Start(t)
	s.SetMemberSubjects([]string{"orders.get.*"})
	for _, c := range []struct {
		subject, queue string
		allowed        bool
	}{
		{"http.hello", "q", true},
		{"http.>", "q", true},
		{"http.hello.stream", "q", true},
		{"cancel.http.hello", "", true},
		{"event.>", "", true},
		{"_INBOX_worker.>", "", true},
		{"orders.get.*", "q", true},
		{"orders.get.*", "", true}, // plain NATS services need nothing of Millrace
		{"orders.get.*", "workers", true},
		{"orders.get.7", "", true},
		{"$SRV.PING", "", true},
		{"http.hello", "", false},      // would see every request twice
		{"http.hello", "other", false}, // would run every request twice
		{"http.>", "", false},
		{"upstream.api", "q", false},
		{"orders.put.*", "q", false},
		{"orders.put.*", "", false},
		{"orders.>", "", false},
		{"_INBOX.>", "", false},
		{"_INBOX_other.>", "", false},
		{"$JS.API.>", "", false},
		{"$KV.>", "", false},
		{"$KV.millrace-sites.>", "", false},
		{"blob.>", "", false},
		{"site.ask", "", false}, // could say that it has a deploy
		{"$SYS.>", "", false},
		{"millrace.>", "", false},
		{"api.>", "", false},
		{">", "", false},
		{"*.hello", "q", false},
	} {
		nc := connect(t, s.ClientURL(), nats.Name("worker"))
		sub, err := nc.QueueSubscribeSync(c.subject, c.queue)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		_, err = sub.NextMsg(time.Millisecond)
		if refused := errors.Is(err, nats.ErrPermissionViolation); refused == c.allowed {
			t.Errorf("subscribe %q in group %q: %v, want allowed %t", c.subject, c.queue, err, c.allowed)
		}
	}
}

// What a member publishes reaches nobody, except one answer to a request that it got, and api.>.
func TestMemberPublishes(t *testing.T) {
	s := natsservertest.Start(t)
	node := nodeConn(t, s)
	sub, err := node.SubscribeSync(">")
	if err == nil {
		err = node.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	// arrived returns what has reached the node. After both connections are flushed that is everything.
	arrived := func(member *nats.Conn) (subjects []string) {
		if err := errors.Join(member.Flush(), node.Flush()); err != nil {
			t.Fatal(err)
		}
		for {
			msg, err := sub.NextMsg(time.Millisecond)
			if err != nil {
				return subjects
			}
			if !strings.HasPrefix(msg.Subject, "$SYS") {
				subjects = append(subjects, msg.Subject)
			}
		}
	}
	member := connect(t, s.ClientURL(), nats.Name("worker"))
	for _, subject := range []string{
		"http.hello", "upstream.api", "cancel.http.hello", "event.http.x.2xx", "orders.get.1", "$JS.API.INFO",
		"$JS.API.STREAM.DELETE.X", "$KV.cache.a", "$KV.millrace-sites.www.live",
		"$JS.API.STREAM.PURGE.millrace-blobs", "blob.0.0", "blobclaim.state", "site.ask",
		"$SYS.REQ.SERVER.PING", "millrace.hello", "_INBOX.abc", "_INBOX_other.abc",
	} {
		if err := member.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := arrived(member); got != nil {
			t.Errorf("published on %s and reached %s", subject, got)
		}
	}
	if err := member.Publish("api.cache.get", nil); err != nil {
		t.Fatal(err)
	}
	if got := arrived(member); len(got) != 1 || got[0] != "api.cache.get" {
		t.Errorf("a request on api.> reached %s", got)
	}
}

// A member may send one reply and eight interim responses to each request. The server refuses the tenth message.
func TestTenthReplyRefused(t *testing.T) {
	s := natsservertest.Start(t)
	member := connect(t, s.ClientURL())
	if _, err := member.QueueSubscribe("http.twice", "q", func(msg *nats.Msg) {
		for range 10 {
			_ = msg.Respond([]byte("one"))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := member.Flush(); err != nil {
		t.Fatal(err)
	}
	node := nodeConn(t, s)
	replies, err := node.SubscribeSync("inbox.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := node.PublishRequest("http.twice", "inbox.1", nil); err != nil {
		t.Fatal(err)
	}
	for range 9 {
		if msg, err := replies.NextMsg(5 * time.Second); err != nil || string(msg.Data) != "one" {
			t.Fatalf("got %v, %v", msg, err)
		}
	}
	if err := member.Flush(); err != nil {
		t.Fatal(err)
	}
	if msg, err := replies.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("a tenth message came through: %q", msg.Data)
	}
}

// A member knows a part of the node's inbox from the requests that it gets. It still can't read that inbox by choosing
// a name made of it, and so can't make the server expect a reply on a subject of its choice.
func TestMemberCannotReadNodeInbox(t *testing.T) {
	s := natsservertest.Start(t)
	conn := natsservertest.Connect(t, s)
	requests := make(chan *nats.Msg, 1)
	member := connect(t, s.ClientURL())
	if _, err := member.QueueSubscribe("http.evil", "q", func(m *nats.Msg) { requests <- m }); err != nil {
		t.Fatal(err)
	}
	if err := member.Flush(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = conn.Do(t.Context(), conn.Service("evil"),
			&mesh.Request{Method: "POST", Target: "/", Host: "x", Deadline: time.Now().Add(5 * time.Second)})
	}()
	root, _, _ := strings.Cut((<-requests).Reply, ".")
	for _, name := range []string{
		root, strings.TrimPrefix(root, "_INBOX_"), strings.TrimPrefix(root, "_NODE_"),
		root[strings.LastIndexByte(root, '_')+1:],
	} {
		for _, subject := range []string{
			root + ".>", root + ".r.>", "_INBOX_" + name + ".*.http.evil.>",
			"*." + name + ".>",
		} {
			other := connect(t, s.ClientURL(), nats.Name(name))
			sub, err := other.SubscribeSync(subject)
			if err == nil {
				_ = other.Flush()
				_, err = sub.NextMsg(time.Millisecond)
			}
			if !errors.Is(err, nats.ErrPermissionViolation) && strings.HasPrefix(subject, root) {
				t.Errorf("named %s, subscribed to %s: %v", name, subject, err)
			}
		}
	}
	member.Close()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-answered
}

func TestWrongCredentials(t *testing.T) {
	s := natsservertest.Start(t)
	user, password := s.NodeCredential()
	for name, opt := range map[string]nats.Option{
		"none": nats.Name("x"), "wrong token": nats.Token("guess-guess-guess"), "empty token": nats.Token(""),
		"node user, member token":   nats.UserInfo(user, natsservertest.Token+"x"),
		"other user, node password": nats.UserInfo("other", password),
	} {
		if nc, err := nats.Connect("nats://"+s.Addr(), opt); err == nil {
			nc.Close()
			t.Errorf("%s: connected", name)
		} else if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The node's user name with the member's token makes a member, not a node.
	nc := connect(t, "nats://"+s.Addr(), nats.UserInfo(user, natsservertest.Token))
	sub, err := nc.SubscribeSync("$JS.API.>")
	if err == nil {
		_ = nc.Flush()
		_, err = sub.NextMsg(time.Millisecond)
	}
	if !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("node's user with the member's token: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := natsserver.New(natsserver.Config{
		Name: "n", Dir: t.TempDir(), Listen: l.Addr().String(), MemberToken: "t", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); !errors.Is(err, natsserver.ErrPortInUse) {
		t.Errorf("got %v", err)
	}
}

// After a restart JetStream has its data, and the server its address.
func TestRestartKeepsDataAndAddress(t *testing.T) {
	s := natsservertest.Start(t)
	addr := s.Addr()
	nc := nodeConn(t, s)
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != addr || s.Store() != natsserver.StoreCurrent {
		t.Errorf("address %s, was %s; JetStream %s", s.Addr(), addr, s.Store())
	}
	js, err = nodeConn(t, s).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := js.GetLastMsg("S", "s"); err != nil || string(msg.Data) != "kept" {
		t.Errorf("got %v, %v", msg, err)
	}
}

// Alone reports whether a subject has exactly one subscriber: literal, by a wildcard, or in a queue group.
func TestAlone(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s).NATS()
	for i, others := range [][]string{{}, {"SUBJECT"}, {"http.>"}, {"*.NAME"}, {"*.*"}, {"*.>"}, {"http.*"}} {
		for _, queue := range []string{"", "others"} {
			name := fmt.Sprintf("n%d%s", i, queue)
			subject := "http." + name
			var subs []*nats.Subscription
			listen := func(subject, queue string) {
				sub, err := c.QueueSubscribe(subject, queue, func(*nats.Msg) {})
				if err != nil {
					t.Fatal(err)
				}
				subs = append(subs, sub)
			}
			listen(subject, "q")
			for _, o := range others {
				listen(strings.NewReplacer("SUBJECT", subject, "NAME", name).Replace(o), queue)
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := s.Alone(subject); got != (len(others) == 0) {
				t.Errorf("with %q in group %q: alone is %t", others, queue, got)
			}
			for _, sub := range subs {
				if err := sub.Unsubscribe(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// If a member's connection ends with subscriptions, OnGone reports what it served. If the member drained or
// unsubscribed before, it doesn't.
func TestOnGone(t *testing.T) {
	s := natsservertest.Start(t)
	s.SetMemberSubjects([]string{"orders.get.*"})
	told := make(chan []string, 10)
	s.OnGone(func(subjects []string) { told <- subjects })
	member := func(subjects ...string) *nats.Conn {
		nc := connect(t, s.ClientURL(), nats.Name("worker"))
		for _, subject := range subjects {
			queue := "q"
			if strings.HasPrefix(subject, "cancel.") || strings.HasPrefix(subject, "_INBOX") {
				queue = ""
			}
			if _, err := nc.QueueSubscribe(subject, queue, func(*nats.Msg) {}); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return nc
	}
	left := member("http.left", "cancel.http.left")
	if err := left.Drain(); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the drain is over", left.IsClosed)
	for _, c := range []struct{ subjects, want []string }{
		{[]string{"http.one", "http.one.stream", "_INBOX_worker.x"}, []string{"http.one", "http.one.stream"}},
		{
			[]string{"http.two", "cancel.http.two", "orders.get.*", "http.>"},
			[]string{"http.>", "http.two", "orders.get.*"},
		},
		{[]string{"cancel.http.drained"}, []string{"http.drained"}},
	} {
		member(c.subjects...).Close()
		select {
		case got := <-told:
			if !slices.Equal(got, c.want) {
				t.Errorf("a member with %q: told %q", c.subjects, got)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("a member with %q: nothing was told", c.subjects)
		}
	}
	if len(told) > 0 {
		t.Errorf("told %q too", <-told)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	member("http.after").Close()
	if got := <-told; !slices.Equal(got, []string{"http.after"}) {
		t.Errorf("after a restart: told %q", got)
	}
}
