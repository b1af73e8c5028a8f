package memberapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/mesh"
	"millrace/node"
)

// billing is a service in the node's process that answers with the request that it got.
func billing(t *testing.T, conn *mesh.Conn) {
	t.Helper()
	s, err := conn.NewService(mesh.ServiceConfig{
		Destination: conn.Service("billing"),
		Handler: mesh.HandlerFunc(
			func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
				switch r.Target {
				case "/large", "/too-large":
					size := mesh.MaxBody
					if r.Target == "/too-large" {
						size++
					}
					body := mesh.NewBody(strings.NewReader(strings.Repeat("x", size)))
					return &mesh.Response{Status: 200, Stream: body, Length: -1}, nil
				case "/none":
					return &mesh.Response{Status: 404, Body: []byte("no such bill")}, nil
				}
				return &mesh.Response{Status: 200, Header: mesh.Header{
					{Name: "X-Route", Value: r.Route},
					{Name: "X-Upgrade", Value: string(r.Upgrade)},
					{Name: "X-Host", Value: r.Host},
					{Name: "X-Who", Value: r.Header.Get("X-Who")},
					{Name: "X-Hop", Value: r.Header.Get("X-Hop")},
					{Name: "X-Nonce", Value: r.Nonce},
				}, Body: []byte(r.Method + " " + r.Target + " " + string(r.Body))}, nil
			}),
	})
	if err == nil {
		err = s.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
}

// A member calls the listed services through a node. What it sends is trusted no more than a client's request.
func TestMemberCalls(t *testing.T) {
	r := start(t, node.Mesh{MemberCalls: []string{"billing", "nobody"}}, nil)
	billing(t, r.conn)
	call := func(name, request string) *nats.Msg {
		t.Helper()
		msg, err := r.member.Request("api.call."+name, []byte(request), 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	got := string(call("billing", "POST /bills?x=1 HTTP/1.1\r\nHost: shop.test\r\nX-Who: ada\r\n"+
		"Connection: X-Hop\r\nX-Hop: y\r\nMillrace-Route: forged\r\n"+
		"Millrace-Nonce: mine\r\nMillrace-Upgrade: messages\r\nMillrace-Deadline: 10000\r\n\r\n{\"sum\": 7}").Data)
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 200") || body != `POST /bills?x=1 {"sum": 7}` {
		t.Errorf("got %q", got)
	}
	for _, field := range []string{
		"X-Route: api-call", "X-Upgrade: \r\n", "X-Host: shop.test", "X-Who: ada", "X-Hop: \r\n",
	} {
		if !strings.Contains(head+"\r\n", field) {
			t.Errorf("no %q in %q", field, head)
		}
	}
	if strings.Contains(head, "X-Nonce: mine") {
		t.Errorf("the member chose the nonce: %q", head)
	}
	const get = " HTTP/1.1\r\nHost: h\r\n\r\n"
	got = string(call("billing", "GET /none"+get).Data)
	if !strings.HasPrefix(got, "HTTP/1.1 404") || !strings.HasSuffix(got, "no such bill") {
		t.Errorf("got %q", got)
	}
	if got := call("billing", "GET /large"+get).Data; len(got) < mesh.MaxBody {
		t.Errorf("of a body of %d bytes that streams %d came", mesh.MaxBody, len(got))
	}
	for _, c := range []struct{ name, request, code, text string }{
		{"admin", "GET /" + get, "forbidden", "mesh.member_calls"},
		{"nobody", "GET /" + get, "no_member", "nobody"},
		{"Billing", "GET /" + get, "invalid_request", "api.call.NAME"},
		{"billing", `{"path": "/"}`, "invalid_request", "request line"},
		{"billing", "GET / HTTP/1.1\nHost: h\n\n", "invalid_request", "request line"},
		{"billing", "GET / HTTP/1.1\r\n\r\n", "invalid_request", "Host"},
		{"billing", "GET /too-large" + get, "body_too_large", ""},
	} {
		msg := call(c.name, c.request)
		code, text := msg.Header.Get("Millrace-Error"), msg.Header.Get("Millrace-Error-Text")
		if code != c.code || !strings.Contains(text, c.text) || len(msg.Data) > 0 {
			t.Errorf("%s, %q: %s %q %q, want %s, %s", c.name, c.request, code, text, msg.Data, c.code, c.text)
		}
	}
}

// By default members can't call services by api.call. A list of services bounds api.gather too, which without one may
// call all.
func TestMemberCallsAreBounded(t *testing.T) {
	const gather = `{"mode": "all", "calls": {"a": {"to": "service:billing", "path": "/"}}}`
	for _, c := range []struct {
		listed       []string
		call, gather bool
	}{
		{nil, false, true},
		{[]string{"other"}, false, false},
		{[]string{"billing"}, true, true},
		{[]string{"*"}, true, true},
	} {
		r := start(t, node.Mesh{MemberCalls: c.listed}, func(context.Context, *node.Route) (*mesh.Response, error) {
			return &mesh.Response{Status: 200}, nil
		})
		billing(t, r.conn)
		msg, err := r.member.Request("api.call.billing", []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 20*time.Second)
		if err != nil || (msg.Header.Get("Millrace-Error") == "") != c.call {
			t.Errorf("with %q: call got %+v, %v", c.listed, msg, err)
		}
		msg, err = r.member.Request("api.gather", []byte(gather), 20*time.Second)
		if err != nil || strings.Contains(string(msg.Data), "mesh.member_calls") == c.gather {
			t.Errorf("with %q: gather got %s, %v", c.listed, msg.Data, err)
		}
	}
}

// A member can't make a service or a node publish anywhere by the reply subject of its request: it may not publish to
// services, and nodes reply to inboxes only.
func TestMemberCallsDontEscape(t *testing.T) {
	r := start(t, node.Mesh{MemberCalls: []string{"*"}}, nil)
	billing(t, r.conn)
	reached := make(chan *nats.Msg, 10)
	for _, subject := range []string{"millrace.members", "$JS.API.>", "http.other"} {
		sub, err := r.conn.NATS().Subscribe(subject, func(msg *nats.Msg) {
			// not the node's own
			if msg.Header.Get("Millrace-Error") != "" || strings.Contains(string(msg.Data), "HTTP/1.1") {
				reached <- msg
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	request := []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	for _, reply := range []string{"millrace.members", "$JS.API.INFO", "http.other"} {
		for _, subject := range []string{"api.call.billing", "http.billing"} {
			if err := r.member.PublishRequest(subject, reply, request); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // processed after all of the above
		if _, err := r.member.Request("api.call.billing", request, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case msg := <-reached:
		t.Errorf("%s got %q", msg.Subject, msg.Data)
	default:
	}
}
