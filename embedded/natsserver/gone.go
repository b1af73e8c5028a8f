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

// watchUser is the user name of the server's own watcher. It needs the node's password, and may only hear of
// connections that end.
const watchUser = "millrace-watch"

// memberUser is what the server calls every member.
const memberUser = "member"

const disconnected = "$SYS.ACCOUNT." + account + ".DISCONNECT"

// watcher finds out which subjects members served whose connections end before they unsubscribed: they died, or were
// cut off. Requests that they had will never be answered. The server tells the end of a connection before its
// subscriptions are gone, and what they were only in its list of closed connections.
type watcher struct {
	srv  *server.Server
	gone func(subjects []string)
	nc   *nats.Conn
	stop chan struct{}
	work sync.WaitGroup

	mu    sync.Mutex
	ended map[uint64]int // connections whose subscriptions aren't known yet: how often they were looked for
	wake  chan struct{}  // has room for one
}

// How often the server's list is looked at for a connection that has ended, and how many may wait for that.
const (
	lookEvery = 2 * time.Millisecond
	maxLooks  = 500
	maxEnded  = 10_000
	maxOpen   = 1 << 20
)

// watch starts the watcher of a server that runs.
func (s *Server) watch(srv *server.Server) (*watcher, error) {
	w := &watcher{
		srv: srv, gone: s.tellGone, stop: make(chan struct{}), ended: map[uint64]int{}, wake: make(chan struct{}, 1),
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
	if _, err = w.nc.Subscribe(disconnected, w.hear); err == nil {
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

// hear takes the end of a connection. Other servers tell those of theirs.
func (w *watcher) hear(msg *nats.Msg) {
	var e server.DisconnectEventMsg
	if json.Unmarshal(msg.Data, &e) != nil || e.Server.ID != w.srv.ID() || e.Client.User != memberUser {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ended) < maxEnded {
		w.ended[e.Client.ID] = 0
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
		for w.look() {
			select {
			case <-w.stop:
				return
			case <-time.After(lookEvery):
			}
		}
	}
}

// look tells what connections that have ended had subscribed to, and whether there are some that the server isn't done
// with.
func (w *watcher) look() (more bool) {
	members := server.ConnzOptions{State: server.ConnOpen, Account: account, User: memberUser, Limit: maxOpen}
	open, err1 := w.srv.Connz(&members)
	members.State, members.SubscriptionsDetail = server.ConnClosed, true
	closed, err2 := w.srv.Connz(&members)
	if err1 != nil || err2 != nil {
		return false
	}
	unsubscribing := map[uint64]bool{} // the account has a connection until its subscriptions are gone
	for _, c := range open.Conns {
		unsubscribing[c.Cid] = true
	}
	subjects := map[string]bool{}
	for _, c := range closed.Conns {
		if unsubscribing[c.Cid] || !w.take(c.Cid) {
			continue
		}
		for _, sub := range c.SubsDetail {
			served(subjects, sub.Subject)
		}
	}
	if len(subjects) > 0 {
		w.gone(slices.Sorted(maps.Keys(subjects)))
	}
	return w.wait()
}

// take reports whether a connection is one that is looked for, once.
func (w *watcher) take(cid uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ended := w.ended[cid]
	delete(w.ended, cid)
	return ended
}

// wait reports whether connections are still looked for. One that isn't found for long is given up.
func (w *watcher) wait() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for cid := range w.ended {
		if w.ended[cid]++; w.ended[cid] > maxLooks {
			delete(w.ended, cid)
		}
	}
	return len(w.ended) > 0
}

// served notes what a member served that had subscribed to the subject. Its cancellations tell it too: a member that
// drains keeps those longest.
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
