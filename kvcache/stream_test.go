package kvcache_test

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache"
)

// plainNATS starts a server without JetStream, so that a test can answer in its place.
func plainNATS(t *testing.T) *nats.Conn {
	t.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// While there is no leader, JetStream doesn't answer. OpenStream retries soon enough to reach the next leader, not only
// after opening has failed.
func TestOpenStreamRetriesWithoutLeader(t *testing.T) {
	t.Parallel()
	nc := plainNATS(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := jetstream.StreamConfig{Name: "KV_x", Subjects: []string{"$KV.x.>"}, Replicas: 3}
	answers := func(subject string, unanswered int64, answer any) *atomic.Int64 {
		t.Helper()
		b, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int64
		if _, err = nc.Subscribe(subject, func(m *nats.Msg) {
			if asked.Add(1) > unanswered {
				_ = m.Respond(b)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return &asked
	}
	none := map[string]any{"error": map[string]any{"code": 404, "err_code": 10059, "description": "stream not found"}}
	found := answers("$JS.API.STREAM.INFO.KV_x", 2, none)
	made := answers("$JS.API.STREAM.CREATE.KV_x", 1, map[string]any{"config": cfg, "created": time.Now()})
	stream, err := kvcache.OpenStream(t.Context(), nc, js, cfg, kvcache.SizeStays)
	if err != nil {
		t.Fatal(err)
	}
	if name := stream.CachedInfo().Config.Name; name != cfg.Name || found.Load() < 3 || made.Load() < 2 {
		t.Errorf("opened %q after %d and %d questions", name, found.Load(), made.Load())
	}
}
