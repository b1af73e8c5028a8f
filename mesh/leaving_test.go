package mesh_test

import (
	"context"
	"fmt"
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

// startLoad sends requests from 16 callers until stop is called, which returns how many were answered and how many
// refused. A request that ends in any other way fails the test, and so does one that waits for its deadline.
func startLoad(
	t *testing.T, to mesh.Destination, conns ...*mesh.Conn,
) (answered *atomic.Int64, stop func() (refused int64)) {
	t.Helper()
	var refused atomic.Int64
	answered = &atomic.Int64{}
	ended := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				c := conns[i%len(conns)]
				_, err := c.Do(context.WithoutCancel(t.Context()), to, request("POST", "/", time.Minute))
				switch code := node.CodeOf(err); {
				case err == nil:
					answered.Add(1)
				case code == node.CodeNoMember || code == node.CodeBusy:
					refused.Add(1)
				default:
					t.Errorf("a request ended with %v", err)
					return
				}
			}
		})
	}
	return answered, func() int64 {
		close(ended)
		callers.Wait()
		return refused.Load()
	}
}

// quickHandler answers after a moment, or returns when its service is closed.
func quickHandler(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
	select {
	case <-time.After(100 * time.Microsecond):
		return &mesh.Response{Status: 200}, nil
	case <-ctx.Done():
		return nil, node.Errorf(node.CodeBusy, ctx.Err(), "closed")
	}
}

// startCluster returns connections of the three nodes of a cluster, which know each other.
func startCluster(t *testing.T) []*mesh.Conn {
	t.Helper()
	var out []*mesh.Conn
	var lists []*mesh.Members
	for i, s := range natsservertest.StartThree(t) {
		c := natsservertest.Connect(t, s)
		m := members(t, c, fmt.Sprintf("n%d", i+1), func(mesh.MemberEvent) {})
		openMembers(t, m)
		out, lists = append(out, c), append(lists, m)
	}
	nodetest.Eventually(t, "the nodes know of each other", func() bool {
		for _, m := range lists {
			if len(m.List()) != len(lists) {
				return false
			}
		}
		return true
	})
	return out
}

// The last member of a group leaves and joins under load, hundreds of times: no request is lost.
func TestLastMemberLosesNothing(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t), func(c *mesh.Config) { c.Local = node.LocalNATS })
	testRejoining(t, c, c)
}

// The same in a cluster, where the callers' servers learn of it later.
func TestLastMemberOfClusterLosesNothing(t *testing.T) {
	nodes := startCluster(t)
	testRejoining(t, nodes[0], nodes[1:]...)
}

func testRejoining(t *testing.T, member *mesh.Conn, callers ...*mesh.Conn) {
	t.Helper()
	to := member.Service("last")
	answered, stop := startLoad(t, to, callers...)
	for i := range 200 {
		s, err := member.NewService(mesh.ServiceConfig{
			Destination: to, Handler: mesh.HandlerFunc(quickHandler), Limit: 1000,
		})
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		before := answered.Load()
		nodetest.Eventually(t, "requests are answered", func() bool {
			return answered.Load() > before || t.Failed()
		})
		if i%2 == 0 {
			err = s.Close()
		} else {
			err = s.Shutdown(t.Context())
		}
		if err != nil {
			t.Error(err)
		}
	}
	refused := stop()
	t.Logf("%d answered, %d refused", answered.Load(), refused)
}

// A member at its limit stays in its group: each request is answered or refused.
func TestFullMemberLosesNothing(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t), func(c *mesh.Config) { c.Local = node.LocalNATS })
	testFullMember(t, c, c)
}

func TestFullMemberOfClusterLosesNothing(t *testing.T) {
	nodes := startCluster(t)
	testFullMember(t, nodes[0], nodes[1:]...)
}

func testFullMember(t *testing.T, member *mesh.Conn, callers ...*mesh.Conn) {
	t.Helper()
	serve(t, member, "full", 3, quickHandler)
	answered, stop := startLoad(t, member.Service("full"), callers...)
	nodetest.Eventually(t, "many are answered", func() bool { return answered.Load() > 5000 || t.Failed() })
	if refused := stop(); refused == 0 {
		t.Error("the member was never full")
	}
}

// All members leave at the same moment under load, and join again: no request is lost in between.
func TestAllMembersLeaveAtOnce(t *testing.T) {
	nodes := startCluster(t)
	to := nodes[0].Service("all")
	answered, stop := startLoad(t, to, nodes...)
	for range 50 {
		var services []*mesh.Service
		for _, c := range nodes[:2] {
			services = append(services, serve(t, c, "all", 1000, quickHandler))
		}
		before := answered.Load()
		nodetest.Eventually(t, "requests are answered", func() bool {
			return answered.Load() > before+20 || t.Failed()
		})
		var leaving sync.WaitGroup
		for _, s := range services {
			leaving.Go(func() {
				if err := s.Shutdown(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		leaving.Wait()
	}
	stop()
}

// Requests with streams are as safe: each is answered or refused.
func TestLeavingLosesNoStream(t *testing.T) {
	nodes := startCluster(t)
	to := nodes[0].Service("streams")
	ended := make(chan struct{})
	var callers sync.WaitGroup
	var taken atomic.Int64
	for i := range 8 {
		callers.Go(func() {
			for c := nodes[1+i%2]; ; {
				select {
				case <-ended:
					return
				default:
				}
				req := request("POST", "/", time.Minute)
				req.Stream, req.Length = mesh.NewBody(strings.NewReader("body")), 4
				_, err := c.Do(context.WithoutCancel(t.Context()), to, req)
				switch code := node.CodeOf(err); {
				case err == nil:
					taken.Add(1)
				case code != node.CodeNoMember && code != node.CodeBusy:
					t.Errorf("a request ended with %v", err)
					return
				}
			}
		})
	}
	for range 60 {
		s, err := nodes[0].NewService(mesh.ServiceConfig{
			Destination: to, Handler: mesh.HandlerFunc(quickHandler), Limit: 1000, Streams: true,
		})
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		before := taken.Load()
		nodetest.Eventually(t, "bodies are taken", func() bool { return taken.Load() > before || t.Failed() })
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(ended)
	callers.Wait()
}

// When every member of a large group is at its limit, requests are retried less. When there is capacity again, they are
// retried as usual.
func TestFullGroupIsRetriedLess(t *testing.T) {
	s := natsservertest.Start(t)
	c := natsservertest.Connect(t, s)
	var asked atomic.Int64
	var room atomic.Bool
	for range 3 {
		subscribe(t, s.ClientURL(), "http.group", func(msg *nats.Msg) {
			asked.Add(1)
			if room.Load() {
				_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n"))
				return
			}
			busy := nats.NewMsg(msg.Reply)
			busy.Header.Set("Millrace-Busy", "1")
			_ = msg.RespondMsg(busy)
		})
	}
	const requests = 200
	for range requests {
		_, err := c.Do(t.Context(), c.Service("group"), request("POST", "/", time.Minute))
		wantCode(t, err, node.CodeBusy)
	}
	if n := asked.Load(); n > 7*requests { // nine times each if none learned of another
		t.Errorf("%d requests asked %d times", requests, n)
	}
	room.Store(true)
	if _, err := c.Do(t.Context(), c.Service("group"), request("POST", "/", time.Minute)); err != nil {
		t.Error(err)
	}
}
