package natsserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// watchUser is the user name of the server's own watcher. It needs the node's password, and may only receive the events
// of connections that end.
const watchUser = "millrace-watch"

// memberUser is the user name that the server records for every member.
const memberUser = "member"

const disconnectSubject = "$SYS.ACCOUNT." + account + ".DISCONNECT"

// watcher reports which subjects a member served when its connection ended before it unsubscribed: the member died or
// was disconnected, and requests that it had will never be answered.
//
// The server publishes the end of a connection before it removes the connection's subscriptions, and lists the
// subscriptions only among its closed connections.
type watcher struct {
	srv  *server.Server
	gone func(subjects []string)
	nc   *nats.Conn
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex     // guards pending
	pending map[uint64]int // connections to look up, with the number of attempts so far
	wake    chan struct{}  // capacity 1: more than one wake-up adds nothing
}

const (
	lookEvery  = 2 * time.Millisecond // from one lookup of the server's lists to the next
	maxLooks   = 500                  // lookups for one connection
	maxPending = 10_000
	maxOpen    = 1 << 20
)

// watch starts the watcher of the running server.
func (s *Server) watch(srv *server.Server) (*watcher, error) {
	w := &watcher{
		srv: srv, gone: s.reportGone, stop: make(chan struct{}), pending: map[uint64]int{},
		wake: make(chan struct{}, 1),
	}
	var err error
	failed := func(_ *nats.Conn, _ *nats.Subscription, err error) {
		s.cfg.Log.Warn("the end of members' connections isn't told", "cause", err)
	}
	w.nc, err = nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(watchUser, s.nodePassword),
		nats.Name("millrace watcher"), nats.MaxReconnects(-1), nats.ErrorHandler(failed))
	if err != nil {
		return nil, fmt.Errorf("watch members: %w", err)
	}
	if _, err = w.nc.Subscribe(disconnectSubject, w.onDisconnect); err == nil {
		err = w.nc.Flush()
	}
	if err != nil {
		w.nc.Close()
		return nil, fmt.Errorf("watch members: %w", err)
	}
	w.work.Go(w.run)
	return w, nil
}

func (w *watcher) close() {
	w.nc.Close()
	close(w.stop)
	w.work.Wait()
}

// onDisconnect notes the end of a member's connection. Other servers report theirs.
func (w *watcher) onDisconnect(msg *nats.Msg) {
	var e server.DisconnectEventMsg
	if json.Unmarshal(msg.Data, &e) != nil || e.Server.ID != w.srv.ID() || e.Client.User != memberUser {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) < maxPending {
		w.pending[e.Client.ID] = 0
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) run() {
	for {
		select {
		case <-w.stop:
			return
		case <-w.wake:
		}
		for w.reportEnded() {
			select {
			case <-w.stop:
				return
			case <-time.After(lookEvery):
			}
		}
	}
}

// reportEnded reports what members served whose connections have ended. more reports whether the server hasn't listed
// some of them yet.
func (w *watcher) reportEnded() (more bool) {
	members := server.ConnzOptions{State: server.ConnOpen, Account: account, User: memberUser, Limit: maxOpen}
	open, err1 := w.srv.Connz(&members)
	members.State, members.SubscriptionsDetail = server.ConnClosed, true
	closed, err2 := w.srv.Connz(&members)
	if err1 != nil || err2 != nil {
		return false
	}
	unsubscribing := map[uint64]bool{} // the account has a connection until its subscriptions are removed
	for _, c := range open.Conns {
		unsubscribing[c.Cid] = true
	}
	subjects := map[string]bool{}
	for _, c := range closed.Conns {
		if unsubscribing[c.Cid] || !w.removePending(c.Cid) {
			continue
		}
		for _, sub := range c.SubsDetail {
			served(subjects, sub.Subject)
		}
	}
	if len(subjects) > 0 {
		w.gone(slices.Sorted(maps.Keys(subjects)))
	}
	return w.expirePending()
}

// removePending reports whether the connection was pending, and removes it.
func (w *watcher) removePending(cid uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ended := w.pending[cid]
	delete(w.pending, cid)
	return ended
}

// expirePending counts an attempt for each pending connection, drops those with too many, and reports whether any is
// left.
func (w *watcher) expirePending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for cid := range w.pending {
		if w.pending[cid]++; w.pending[cid] > maxLooks {
			delete(w.pending, cid)
		}
	}
	return len(w.pending) > 0
}

// served adds the subject that a member served with this subscription. A subscription to cancellations names it too: a
// member that drains keeps those longest.
func served(subjects map[string]bool, subject string) {
	switch {
	case strings.HasPrefix(subject, "cancel."):
		subjects[strings.TrimPrefix(subject, "cancel.")] = true
	case strings.HasPrefix(subject, "_INBOX"), strings.HasPrefix(subject, "$SRV."),
		strings.HasPrefix(subject, "event."):
	default:
		subjects[subject] = true
	}
}
