package natsserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

const leafToken = "token-of-leafs-for-tests"

// access is what the leafs of these tests may do.
func access() natsserver.Access {
	return natsserver.Access{
		Both: []string{"http.>", "_LEAF_.>", "event.>"}, Publish: []string{"_NODE_.>", "$KV.open.>"},
		Read: []string{"KV_open"},
	}
}

// hub starts a server that leafs may join, and returns where.
func hub(t *testing.T) (*natsserver.Server, string) {
	t.Helper()
	listen := nodetest.FreePorts(t, 1)[0]
	return start(t, natsserver.Config{
		Name: "hub", Leafs: &natsserver.Leafs{Listen: listen, Token: leafToken, Access: access()},
	}), listen
}

// leafOf starts a leaf.
func leafOf(t *testing.T, name string, hubs ...string) *natsserver.Server {
	t.Helper()
	return start(t, natsserver.Config{Name: name, Leaf: &natsserver.Leaf{Hub: hubs, Token: leafToken}})
}

func start(t *testing.T, cfg natsserver.Config) *natsserver.Server {
	t.Helper()
	cfg.Dir, cfg.Listen, cfg.MemberToken, cfg.Log = t.TempDir(), "127.0.0.1:0", natsservertest.Token, nodetest.Discard()
	s, err := natsserver.New(cfg)
	if err == nil {
		err = s.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func joined(t *testing.T, s *natsserver.Server) {
	t.Helper()
	nodetest.Eventually(t, "the leaf has joined, and knows what its hub subscribes to", func() bool {
		return s.Hub().Connected && s.Anybody("$JS.API.INFO")
	})
}

// bucket makes a KV bucket at the hub.
func bucket(t *testing.T, s *natsserver.Server, name string) {
	t.Helper()
	nc, js := natsservertest.JetStream(t, s)
	t.Cleanup(nc.Close)
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: name}); err != nil {
		t.Fatal(err)
	}
}

// A leaf reads and watches the streams that it may, and writes into those that it may write.
func TestLeafReadsHub(t *testing.T) {
	h, listen := hub(t)
	bucket(t, h, "open")
	link := nodetest.NewLink(t, listen, 20*time.Millisecond)
	l := leafOf(t, "far", link.Addr())
	joined(t, l)
	if l.Store() != natsserver.StoreRemote || l.Hub().Name != "hub" {
		t.Errorf("store %s, hub %+v", l.Store(), l.Hub())
	}
	nc, js := natsservertest.JetStream(t, l, nats.CustomInboxPrefix("_LEAF_.far"))
	defer nc.Close()
	kv, err := js.KeyValue(t.Context(), "open")
	if err != nil {
		t.Fatal(err)
	}
	revision, err := kv.Put(t.Context(), "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "a"); err != nil || e.Revision() != revision {
		t.Errorf("got %v, %v", e, err)
	}
	if _, err := kv.Update(t.Context(), "a", []byte("2"), revision+7); err == nil {
		t.Error("a write against another revision was taken")
	}
	watch, err := kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Stop() }()
	if e := <-watch.Updates(); e == nil || e.Key() != "a" {
		t.Errorf("the watch begins with %v", e)
	}
	<-watch.Updates() // nil: all that was there
	near, hubJS := natsservertest.JetStream(t, h)
	defer near.Close()
	hubKV, err := hubJS.KeyValue(t.Context(), "open")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := hubKV.Put(t.Context(), "b", []byte("3")); err != nil {
		t.Fatal(err)
	}
	if e := <-watch.Updates(); e.Key() != "b" {
		t.Errorf("the watch goes on with %v", e)
	}
	t.Logf("the write of the hub was heard after %s", time.Since(begin))
	link.Break()
	nodetest.Eventually(t, "the watch goes on after the link broke", func() bool {
		_, err := hubKV.Put(t.Context(), "c", []byte("4"))
		if err != nil {
			return false
		}
		select {
		case e := <-watch.Updates():
			return e != nil && e.Key() == "c"
		case <-time.After(time.Second):
			return false
		}
	})
	t.Logf("the watch was back after %s", time.Since(begin))
}

// What a leaf may not do in its hub is refused there, whatever the leaf's own server lets pass.
func TestLeafHasLeastPermissions(t *testing.T) {
	h, listen := hub(t)
	bucket(t, h, "open")
	bucket(t, h, "closed")
	l := leafOf(t, "far", listen)
	joined(t, l)
	hubNATS, js := natsservertest.JetStream(t, h)
	defer hubNATS.Close()
	far, farJS := natsservertest.JetStream(t, l, nats.CustomInboxPrefix("_LEAF_.far"))
	defer far.Close()
	ask := func(subject, body string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := far.RequestWithContext(ctx, subject, []byte(body))
		return err
	}
	if err := ask("$JS.API.STREAM.INFO.KV_open", ""); err != nil {
		t.Fatalf("what is allowed fails: %v", err)
	}
	for _, subject := range []string{
		"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.DELETE.KV_open", "$JS.API.STREAM.PURGE.KV_open",
		"$JS.API.STREAM.UPDATE.KV_open", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.INFO.KV_closed",
		"$JS.API.STREAM.MSG.DELETE.KV_open", "$JS.API.STREAM.SNAPSHOT.KV_open", "$JS.API.DIRECT.GET.KV_closed",
		"$KV.closed.a", "$SYS.REQ.SERVER.PING", "$JS.API.STREAM.LEADER.STEPDOWN.KV_open",
	} {
		if err := ask(subject, "{}"); err == nil {
			t.Errorf("%s is answered", subject)
		}
	}
	if _, err := farJS.Stream(t.Context(), "KV_open"); err != nil {
		t.Error(err)
	}
	if info, err := js.Stream(t.Context(), "KV_open"); err != nil || info.CachedInfo().Config.MaxMsgsPerSubject != 1 {
		t.Errorf("the stream is %v, %v", info, err)
	}
	near := nodeConn(t, h)
	heard, err := near.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	// The leaf's own subscriptions hear nothing that they mustn't.
	spy, err := far.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, near)
	flush(t, far)
	nodetest.Eventually(t, "the leaf hears and is heard", func() bool {
		_ = near.Publish("event.down", nil)
		_ = far.Publish("event.up", nil)
		return hears(heard, "event.up") && hears(spy, "event.down")
	})
	for _, subject := range []string{"api.call.x", "millrace.members", "_INBOX_m.x", "$KV.closed.a"} {
		if err := errors.Join(near.Publish(subject, []byte("down")), far.Publish(subject, []byte("up"))); err != nil {
			t.Fatal(err)
		}
	}
	_ = near.Publish("event.last", nil)
	_ = far.Publish("event.last", nil)
	for _, sub := range []*nats.Subscription{heard, spy} {
		from := map[*nats.Subscription]string{heard: "up", spy: "down"}[sub]
		for last := 0; last < 2; {
			msg, err := sub.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if msg.Subject == "event.last" {
				last++
			}
			if string(msg.Data) == from {
				t.Errorf("%s passed %s", msg.Subject, from)
			}
		}
	}
}

func flush(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func hears(sub *nats.Subscription, subject string) bool {
	for {
		msg, err := sub.NextMsg(50 * time.Millisecond)
		if err != nil {
			return false
		}
		if msg.Subject == subject {
			return true
		}
	}
}

// rawLeaf connects to the leafs' address as a server would, with the given words in its CONNECT.
func rawLeaf(t *testing.T, listen string, connect map[string]any) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	text, err := json.Marshal(connect)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "CONNECT %s\r\nPING\r\n", text); err != nil {
		t.Fatal(err)
	}
	return c
}

// reply reads until a word stands in what the server sends, or the connection ends. It returns all that was read.
func reply(t *testing.T, c net.Conn, word string) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	b := make([]byte, 32<<10)
	for !strings.Contains(got.String(), word) {
		n, err := c.Read(b)
		got.Write(b[:n])
		if err != nil {
			break
		}
	}
	return got.String()
}

// Only leafs with their token get in at their address, and with that token nobody gets in elsewhere.
func TestLeafCredentials(t *testing.T) {
	h, listen := hub(t)
	for name, o := range map[string]map[string]any{
		"nobody":         {},
		"another token":  {"user": "leaf", "pass": "not-the-token-of-leafs"},
		"no token":       {"user": "leaf"},
		"a member":       {"user": "leaf", "pass": natsservertest.Token},
		"a member's way": {"auth_token": natsservertest.Token, "name": "m"},
		"the node":       {"user": "millrace", "pass": leafToken},
	} {
		o["name"], o["server_id"] = "raw", "RAW"
		got := reply(t, rawLeaf(t, listen, o), "PONG")
		if !strings.Contains(got, "Authorization Violation") || strings.Contains(got, "PONG") {
			t.Errorf("%s got %q", name, got)
		}
	}
	good := reply(t, rawLeaf(t, listen, map[string]any{
		"user": "leaf", "pass": leafToken, "name": "raw", "server_id": "RAW", "headers": true,
	}), "PONG")
	if !strings.Contains(good, "PONG") {
		t.Errorf("with the token: %q", good)
	}
	for _, option := range []nats.Option{
		nats.UserInfo("leaf", leafToken), nats.Token(leafToken), nats.UserInfo("millrace", leafToken),
	} {
		if nc, err := nats.Connect("nats://"+h.Addr(), option); err == nil {
			t.Error("a client got in with the token of leafs")
			nc.Close()
		}
	}
}

// A leaf that doesn't keep to what it was told, and takes itself for a hub, can't do more.
func TestLeafThatLies(t *testing.T) {
	for _, isHub := range []bool{false, true} {
		h, listen := hub(t)
		bucket(t, h, "closed")
		near := nodeConn(t, h)
		js, err := jetstream.New(near)
		if err != nil {
			t.Fatal(err)
		}
		heard, err := near.SubscribeSync(">")
		if err != nil {
			t.Fatal(err)
		}
		flush(t, near)
		c := rawLeaf(t, listen, map[string]any{
			"user": "leaf", "pass": leafToken, "name": "raw", "server_id": "RAW", "headers": true, "is_hub": isHub,
		})
		if got := reply(t, c, "PONG"); !strings.Contains(got, "PONG") {
			t.Fatalf("is_hub %t: %q", isHub, got)
		}
		_, err = fmt.Fprint(c, "LS+ >\r\nLS+ _INBOX_m.>\r\nLS+ $SYS.>\r\nLMSG event.up 2\r\nok\r\nPING\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if msg, err := heard.NextMsg(5 * time.Second); err != nil || msg.Subject != "event.up" {
			t.Errorf("is_hub %t: the hub heard %v, %v", isHub, msg, err)
		}
		for _, subject := range []string{"_INBOX_m.a", "api.secret", "_NODE_.x.r.1", "event.down"} {
			if err := near.Publish(subject, []byte("secret")); err != nil {
				t.Fatal(err)
			}
			if subject == "event.down" {
				break
			}
			if msg, err := heard.NextMsg(5 * time.Second); err != nil || msg.Subject != subject {
				t.Errorf("the hub's own client heard %v, %v", msg, err)
			}
		}
		got := reply(t, c, "LMSG event.down")
		if !strings.Contains(got, "LMSG event.down") || strings.Count(got, "LMSG") != 1 {
			t.Errorf("is_hub %t: the leaf heard %q", isHub, got)
		}
		for _, subject := range []string{"api.call.x", "$KV.closed.a", "$JS.API.STREAM.DELETE.KV_closed"} {
			_, _ = fmt.Fprintf(c, "LMSG %s 2\r\n{}\r\n", subject) // the hub may have closed the connection
		}
		_, _ = fmt.Fprint(c, "PING\r\n")
		reply(t, c, "PONG") // or the end of the connection: all was processed
		if err := near.Publish("event.last", nil); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"event.down", "event.last"} {
			if msg, err := heard.NextMsg(5 * time.Second); err != nil || msg.Subject != want {
				t.Errorf("is_hub %t: the hub heard %v, %v", isHub, msg, err)
			}
		}
		if _, err := js.Stream(t.Context(), "KV_closed"); err != nil {
			t.Errorf("is_hub %t: %v", isHub, err)
		}
	}
}

// A member at the leaf is asked before those of the hub, and they are asked when it has left.
func TestLeafPrefersNearMembers(t *testing.T) {
	h, listen := hub(t)
	l := leafOf(t, "far", listen)
	joined(t, l)
	serve := func(s *natsserver.Server, name string) *nats.Conn {
		nc := connect(t, s.ClientURL(), nats.Name(name))
		if _, err := nc.QueueSubscribe("http.a", "q", func(m *nats.Msg) { _ = m.Respond([]byte(name)) }); err != nil {
			t.Fatal(err)
		}
		flush(t, nc)
		return nc
	}
	serve(h, "near-hub")
	far, _ := natsservertest.JetStream(t, l, nats.CustomInboxPrefix("_LEAF_.far"))
	defer far.Close()
	ask := func() string {
		msg, err := far.Request("http.a", nil, time.Second)
		if err != nil {
			return err.Error()
		}
		return string(msg.Data)
	}
	nodetest.Eventually(t, "the hub's member answers the leaf", func() bool { return ask() == "near-hub" })
	own := serve(l, "near-leaf")
	for range 200 {
		if got := ask(); got != "near-leaf" {
			t.Fatalf("%s answered", got)
		}
	}
	own.Close()
	nodetest.Eventually(t, "the hub's member answers again", func() bool { return ask() == "near-hub" })
}

// A link that breaks, or is cut for a while, is joined again within seconds.
func TestLeafReturns(t *testing.T) {
	_, listen := hub(t)
	link := nodetest.NewLink(t, listen, 5*time.Millisecond)
	l := leafOf(t, "far", link.Addr())
	joined(t, l)
	link.Cut()
	link.Break()
	nodetest.Eventually(t, "the leaf knows that it is cut off", func() bool { return !l.Hub().Connected })
	link.Heal()
	begin := time.Now()
	joined(t, l)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("joined again after %s", took)
	} else {
		t.Logf("joined again after %s", took)
	}
}

// A leaf with several addresses goes to another server of the hub's cluster when its own is gone, and reads on.
func TestLeafOfCluster(t *testing.T) {
	peers, listens := nodetest.FreePorts(t, 3), nodetest.FreePorts(t, 3)
	var servers []*natsserver.Server
	for i, peer := range peers {
		servers = append(servers, start(t, natsserver.Config{
			Name: fmt.Sprintf("n%d", i+1),
			Cluster: &natsserver.Cluster{
				Name: "test", Listen: peer, Peers: peers, Token: "token-of-the-cluster", Store: true,
			},
			Leafs: &natsserver.Leafs{Listen: listens[i], Token: leafToken, Access: access()},
		}))
	}
	nc, js := natsservertest.JetStream(t, servers[2])
	defer nc.Close()
	nodetest.Eventually(t, "the cluster stores", func() bool {
		_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "open", Replicas: 3})
		return err == nil
	})
	l := leafOf(t, "far", listens[:2]...)
	joined(t, l)
	far, farJS := natsservertest.JetStream(t, l, nats.CustomInboxPrefix("_LEAF_.far"))
	defer far.Close()
	kv, err := farJS.KeyValue(t.Context(), "open")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	first := l.Hub().Name
	if err := servers[first[1]-'1'].Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	nodetest.Eventually(t, "the leaf reads from another server", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := kv.Get(ctx, "a")
		return err == nil && l.Hub().Connected && l.Hub().Name != first
	})
	t.Logf("from %s to %s after %s", first, l.Hub().Name, time.Since(begin))
}
