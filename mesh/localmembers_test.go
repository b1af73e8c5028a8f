package mesh_test

import (
	"context"
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

// The same tests pass over either carrier.
func TestCarriers(t *testing.T) {
	before := natsservertest.Local
	defer func() { natsservertest.Local, direct = before, false }()
	for _, mode := range []node.Local{node.LocalNearest, node.LocalNATS} {
		natsservertest.Local = mode
		for name, test := range map[string]func(*testing.T){
			"Do": TestDo, "Timeout": TestTimeout, "Cancel": TestCancelStopsMember, "Busy": TestBusyMembers,
			"Concurrent": TestMemberRunsRequestsConcurrently, "HandlerPanics": TestHandlerPanics,
			"HugeHeads": TestOversizedHeads, "Separate": TestConcurrentRequestsStaySeparate,
			"Shutdown": TestShutdownAnswersEverything, "StreamedReply": TestStreamedReply,
			"StreamOutlivesDeadline": TestStreamOutlivesDeadline, "Interim": TestInterimResponses,
			"BodyPanics": TestBodyPanics,
		} {
			t.Run(string(mode)+"/"+name, test)
		}
	}
	natsservertest.Local, direct = node.LocalNearest, true
	for name, test := range map[string]func(*testing.T){
		"Cancel": TestCancelStopsMember, "Busy": TestBusyMembers,
		"Concurrent": TestMemberRunsRequestsConcurrently, "HandlerPanics": TestHandlerPanics,
		"HugeHeads": TestOversizedHeads, "Separate": TestConcurrentRequestsStaySeparate,
		"Shutdown": TestShutdownAnswersEverything, "Interim": TestInterimResponses, "BodyPanics": TestBodyPanics,
	} {
		t.Run("direct/"+name, test)
	}
}

// panickingBody is a body that panics when it is read, or only when it is closed.
type panickingBody struct {
	mesh.Body

	whenClosed bool
}

func (p *panickingBody) Next() (mesh.Piece, error) {
	if !p.whenClosed {
		panic("next")
	}
	return p.Body.Next()
}

func (p *panickingBody) Close() error { panic("close") }

// A body that panics ends with an error, and affects nothing else.
func TestBodyPanics(t *testing.T) {
	c := natsservertest.Connect(t, natsservertest.Start(t))
	serve(t, c, "hello", 0, func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{
			Status: 200,
			Stream: &panickingBody{mesh.NewBody(strings.NewReader("hello")), r.Target == "/close"}, Length: 5,
		}, nil
	})
	for _, target := range []string{"/next", "/close", "/next"} {
		resp, err := c.Do(t.Context(), c.Service("hello"), get(target))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(mesh.NewReader(resp.Stream))
		if (target == "/next") == (err == nil) || (err == nil && string(body) != "hello") {
			t.Errorf("%s: %q, %v", target, body, err)
		}
		_ = resp.Stream.Close()
	}
	noStreamsLeft(t, c)
}

func localCount(c *mesh.Conn) uint64 { return stats(c, "http.hello").Local }

// In mode auto requests go over NATS while an observer or a second member subscribes, and only then. No request fails
// when that changes.
func TestLocalAuto(t *testing.T) {
	s := natsservertest.Start(t)
	c, other := natsservertest.Connect(t, s), natsservertest.Connect(t, s)
	serve(t, c, "hello", 0, hello)
	to := c.Service("hello")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var sent atomic.Uint64
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				if resp, err := c.Do(t.Context(), to, get("/x")); err != nil || resp.Status != 200 {
					t.Errorf("got %+v, %v", resp, err)
					return
				}
			}
		})
	}
	defer clients.Wait()
	defer close(stop)
	some := func() { // sends requests, which are counted
		all := sent.Load()
		nodetest.Eventually(t, "requests pass", func() bool { return sent.Load() > all+100 || t.Failed() })
	}
	inMemory := func() bool {
		local, all := localCount(c), sent.Load()
		some()
		return sent.Load() > all+20 && localCount(c)-local+20 > sent.Load()-all
	}
	onWire := func() bool {
		local, all := localCount(c), sent.Load()
		some()
		return sent.Load() > all+20 && localCount(c) == local
	}
	within := func(what string, ok func() bool) {
		t.Helper()
		began := time.Now()
		nodetest.Eventually(t, what, ok)
		t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
	}
	within("requests stay in memory", inMemory)

	var seen atomic.Int64
	watch, err := other.NATS().Subscribe("http.>", func(*nats.Msg) { seen.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	within("an observer moves them onto the wire", onWire)
	nodetest.Eventually(t, "the observer sees them", func() bool { return seen.Load() > 100 })
	if err := watch.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	within("its end moves them back", inMemory)

	var shared atomic.Int64
	second := serve(t, other, "hello", 0, func(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
		shared.Add(1)
		return hello(ctx, r)
	})
	within("a second member moves them onto the wire", onWire)
	nodetest.Eventually(t, "the second member has its share", func() bool { return shared.Load() > 100 })
	if err := second.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	within("its end moves them back", inMemory)
}

// Mode nearest prefers the local member until it is at its limit.
func TestLocalNearest(t *testing.T) {
	s := natsservertest.Start(t)
	before := natsservertest.Local
	natsservertest.Local = node.LocalNearest
	c, other := natsservertest.Connect(t, s), natsservertest.Connect(t, s)
	natsservertest.Local = before
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	answer := func(name string) mesh.HandlerFunc {
		return func(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
			if r.Target == "/wait" {
				entered <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return &mesh.Response{Status: 200, Body: []byte(name)}, nil
		}
	}
	const places = 8
	here := serve(t, c, "hello", places, answer("here"))
	serve(t, other, "hello", 0, answer("there"))
	ask := func() string {
		resp, err := c.Do(t.Context(), c.Service("hello"), get("/x"))
		if err != nil {
			t.Fatal(err)
		}
		return string(resp.Body)
	}
	for range 50 {
		if got := ask(); got != "here" {
			t.Fatalf("%s answered", got)
		}
	}
	// The answer comes before the permit is returned.
	nodetest.Eventually(t, "all places are free", func() bool { return here.Active() == 0 })
	var waiting sync.WaitGroup
	for range places {
		waiting.Go(func() {
			if resp, err := c.Do(t.Context(), c.Service("hello"), get("/wait")); err != nil ||
				string(resp.Body) != "here" {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
	for range places { // before others ask for the permits
		<-entered
	}
	nodetest.Eventually(t, "the full member is passed by", func() bool { return ask() == "there" })
	close(release)
	waiting.Wait()
	nodetest.Eventually(t, "it is preferred again", func() bool { return ask() == "here" })
}

func BenchmarkCarriers(b *testing.B) {
	before := natsservertest.Local
	defer func() { natsservertest.Local, direct = before, false }()
	for _, mode := range []node.Local{node.LocalNearest, node.LocalNATS} {
		natsservertest.Local = mode
		b.Run(fmt.Sprint(mode), BenchmarkRoundTrip)
	}
}
