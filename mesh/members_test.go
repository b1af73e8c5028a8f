package mesh_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// members makes the list of a node on its own connection. It isn't open yet.
func members(t *testing.T, c *mesh.Conn, id string, event func(mesh.MemberEvent)) *mesh.Members {
	t.Helper()
	m := c.NewMembers(mesh.MembersConfig{
		Self:    mesh.Member{ID: id, Name: id, Incarnation: 1, Version: "test"},
		Changes: func() (int64, []string) { return 1, nil },
		Event:   event,
	})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func openMembers(t *testing.T, m *mesh.Members) {
	t.Helper()
	if err := m.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A node whose Event is slow still sends and receives heartbeats, and no event is lost.
func TestSlowEventDelaysNoHeartbeat(t *testing.T) {
	s := natsservertest.Start(t)
	var told atomic.Int64
	entered, finish := make(chan struct{}, 10), make(chan struct{})
	slow := members(t, natsservertest.Connect(t, s), "slow", func(mesh.MemberEvent) {
		entered <- struct{}{}
		<-finish
		told.Add(1)
	})
	openMembers(t, slow)
	other := members(t, natsservertest.Connect(t, s), "other", func(mesh.MemberEvent) {})
	openMembers(t, other)
	<-entered
	seen := func() time.Time {
		for _, m := range other.List() {
			if m.Name == "slow" {
				return m.Seen
			}
		}
		return time.Time{}
	}
	nodetest.Eventually(t, "the slow node is heard", func() bool { return !seen().IsZero() })
	first := seen()
	openMembers(t, members(t, natsservertest.Connect(t, s), "third", func(mesh.MemberEvent) {}))
	nodetest.Eventually(t, "the slow node hears the third", func() bool { return len(slow.List()) == 3 })
	nodetest.Eventually(t, "the slow node has a beat", func() bool {
		return seen().After(first.Add(mesh.HeartbeatEvery))
	})
	close(finish)
	if err := slow.Close(); err != nil {
		t.Fatal(err)
	}
	if n := told.Load(); n < 2 {
		t.Errorf("%d events were told before Close returned", n)
	}
}

// Events that aren't taken don't pile up.
func TestEventsAreBounded(t *testing.T) {
	rec := &logBuffer{}
	c := natsservertest.Connect(t, natsservertest.Start(t), func(c *mesh.Config) { c.Log = rec.logger() })
	var told atomic.Int64
	finish := make(chan struct{})
	m := members(t, c, "n1", func(mesh.MemberEvent) {
		<-finish
		told.Add(1)
	})
	openMembers(t, m)
	const sent = 1200
	for i := range sent { // each is a restart
		if err := c.NATS().Publish("millrace.members",
			fmt.Appendf(nil, `{"id":"x","name":"x","version":"1","incarnation":%d}`, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	nodetest.Eventually(t, "all are heard", func() bool {
		list := m.List()
		return len(list) == 2 && list[1].Incarnation == sent
	})
	close(finish)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if n := told.Load(); n >= sent || n < 1000 || !rec.has("one is dropped") {
		t.Errorf("%d of %d were told; the log says it: %t", n, sent, rec.has("one is dropped"))
	}
}

// A node that others would reject doesn't start. One with many roles announces as many as they accept.
func TestSelfIsValidated(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	self := func(change func(*mesh.Member), roles ...string) *mesh.Members {
		cfg := mesh.MembersConfig{
			Self:    mesh.Member{ID: "self", Name: "self", Incarnation: 1, Version: "test"},
			Changes: func() (int64, []string) { return 1, roles },
			Event:   func(mesh.MemberEvent) {},
		}
		change(&cfg.Self)
		m := c.NewMembers(cfg)
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	for what, change := range map[string]func(*mesh.Member){
		"id": func(m *mesh.Member) {
			m.ID = "a b"
		}, "version": func(m *mesh.Member) { m.Version = "" }, "name": func(m *mesh.Member) { m.Name = "N" },
	} {
		if err := self(change).Open(t.Context()); err == nil || !strings.Contains(err.Error(), what+" ") {
			t.Errorf("a wrong %s: %v", what, err)
		}
	}
	var roles []string
	for i := range 300 {
		roles = append(roles, fmt.Sprintf("upstream:u%d", i))
	}
	openMembers(t, self(func(*mesh.Member) {}, roles...))
	other := members(t, natsservertest.Connect(t, s), "other", func(mesh.MemberEvent) {})
	openMembers(t, other)
	nodetest.Eventually(t, "the other node believes it", func() bool {
		list := other.List()
		return len(list) == 2 && len(list[1].Roles) == 256
	})
}

// Malformed heartbeats are logged once, not every second.
func TestMalformedHeartbeatsAreLoggedOnce(t *testing.T) {
	rec := &logBuffer{}
	c := natsservertest.Connect(t, natsservertest.Start(t), func(c *mesh.Config) { c.Log = rec.logger() })
	m := members(t, c, "n1", func(mesh.MemberEvent) {})
	openMembers(t, m)
	for _, data := range []string{
		"{", `{"id":"x"}`, `{"id":"x","name":"x","version":""}`,
		`{"id":"x","name":"x","version":"1"}`,
	} {
		if err := c.NATS().Publish("millrace.members", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	nodetest.Eventually(t, "the good one is heard", func() bool { return len(m.List()) == 2 })
	if n := strings.Count(rec.String(), "malformed"); n != 1 {
		t.Errorf("told %d times:\n%s", n, rec.String())
	}
}

// No event follows Close, however many nodes are heard. Close may be called without Open, and again.
func TestNoEventAfterClose(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	never := members(t, c, "never", nil)
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	if err := never.Open(t.Context()); err == nil {
		t.Error("it was opened after Close")
	}
	var closed atomic.Bool
	m := members(t, c, "n1", func(e mesh.MemberEvent) {
		if closed.Load() {
			t.Errorf("told after Close: %+v", e)
		}
	})
	openMembers(t, m)
	stop := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = c.NATS().Publish("millrace.members",
					fmt.Appendf(nil, `{"id":"x%d","name":"x%d","version":"1"}`, i%900, i%900))
			}
		}
	}()
	nodetest.Eventually(t, "nodes are heard", func() bool { return len(m.List()) > 10 })
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	closed.Store(true)
	close(stop)
	<-sent
}
