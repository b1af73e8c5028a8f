package limit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache"
)

// StoreBytes is how large the stream of records may become where Config names no size: some three million keys. When it
// is full, no new key gets a record, as if the store were away: an old record must not make room, since with it a
// client would get a fresh allowance.
const StoreBytes = 512 << 20

// streamStore keeps the records in a JetStream stream that opens as a KV bucket: one subject for each key, of which the last message counts. A
// message leaves when nobody can count on it any more.
type streamStore struct {
	cfg   *Config
	js    jetstream.JetStream
	name  string // of the bucket
	group *group // writes together what comes at once; nil where the stream's replicas do so
	ready atomic.Bool
	proof proof
}

func newStreamStore(cfg *Config, js jetstream.JetStream) *streamStore {
	s := &streamStore{cfg: cfg, js: js, name: kvcache.BucketName(cfg.Prefix, "limits"), proof: proof{base: time.Now()}}
	if cfg.Replicas == 1 {
		s.group = newGroup(s)
	}
	return s
}

func (s *streamStore) subject(key Key) string { return "$KV." + s.name + "." + key.String() }

// run opens the stream, and opens it again if it is lost, until ctx ends.
func (s *streamStore) run(ctx context.Context) {
	if s.group != nil {
		stopped := make(chan struct{})
		go func() { defer close(stopped); s.group.run(ctx) }()
		defer func() { <-stopped }()
	}
	const slow, fast = 2 * time.Second, 100 * time.Millisecond
	tick := time.NewTicker(fast)
	defer tick.Stop()
	for wait := time.Duration(0); ; wait += fast {
		if !s.ready.Load() || wait >= slow {
			s.ready.Store(s.open(ctx) == nil)
			wait = 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.ready.Store(false)
			return
		}
	}
}

func (s *streamStore) await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !s.ready.Load() || !s.proof.within(provedFor) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
	}
	return nil
}

// open finds the stream or makes it.
func (s *streamStore) open(ctx context.Context) error {
	_, err := kvcache.OpenStream(ctx, s.cfg.NATS, s.js, jetstream.StreamConfig{
		Name: "KV_" + s.name, Description: "Millrace: what is free of each limit", Subjects: []string{"$KV." + s.name + ".>"},
		Storage: jetstream.FileStorage, Replicas: s.cfg.Replicas, MaxMsgsPerSubject: 1, MaxBytes: s.cfg.StoreBytes, Discard: jetstream.DiscardNew,
		AllowRollup: true, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	}, kvcache.SizeGrows)
	if err == nil { // what was just made may not answer yet
		ctx, cancel := context.WithTimeout(ctx, Patience)
		defer cancel()
		_, _, err = s.read(ctx, Key{})
	}
	return err //nolint:wrapcheck // it is only asked whether there is one
}

// get reads a record: from whichever replica is near, or from the one that leads.
func (s *streamStore) get(ctx context.Context, key Key, fresh bool) ([]byte, uint64, error) {
	if !s.ready.Load() {
		return nil, 0, ErrAway
	}
	if fresh && s.cfg.Replicas > 1 {
		return s.getFromLeader(ctx, key)
	}
	return s.read(ctx, key)
}

// read asks whichever replica is near.
func (s *streamStore) read(ctx context.Context, key Key) ([]byte, uint64, error) {
	msg, err := s.cfg.NATS.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_"+s.name+"."+s.subject(key), nil)
	if err != nil {
		return nil, 0, errors.Join(ErrAway, err)
	}
	if status := msg.Header.Get("Status"); status != "" {
		if status == strconv.Itoa(http.StatusNotFound) {
			return nil, 0, nil
		}
		return nil, 0, ErrAway
	}
	rev, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return nil, 0, errors.Join(ErrAway, err)
	}
	return msg.Data, rev, nil
}

func (s *streamStore) getFromLeader(ctx context.Context, key Key) ([]byte, uint64, error) {
	reply, err := s.cfg.NATS.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+s.name, []byte(`{"last_by_subj":"`+s.subject(key)+`"}`))
	if err != nil {
		return nil, 0, errors.Join(ErrAway, err)
	}
	var out struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(reply.Data, &out); {
	case err != nil:
		return nil, 0, errors.Join(ErrAway, err)
	case out.Error != nil && out.Error.Code == http.StatusNotFound:
		return nil, 0, nil
	case out.Error != nil:
		return nil, 0, errors.Join(ErrAway, out.Error)
	}
	return out.Message.Data, out.Message.Seq, nil
}

// put replaces a record.
func (s *streamStore) put(ctx context.Context, key Key, value []byte, rev uint64, keep time.Duration) (uint64, error) {
	if !s.ready.Load() {
		return 0, ErrAway
	}
	w := &write{ctx: ctx, msg: s.message(key, value, rev, keep), done: make(chan struct{})}
	if s.group != nil {
		return s.group.put(ctx, w)
	}
	s.publish(w)
	return w.rev, w.err
}

func (s *streamStore) message(key Key, value []byte, rev uint64, keep time.Duration) *nats.Msg {
	msg := &nats.Msg{Subject: s.subject(key), Data: value, Header: nats.Header{}}
	msg.Header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(rev, 10)}
	msg.Header["Nats-TTL"] = []string{strconv.FormatInt(int64(keep/time.Second)+1, 10)}
	return msg
}

// publish sends one write on its own.
func (s *streamStore) publish(w *write) {
	ack, err := s.js.PublishMsg(w.ctx, w.msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		w.err = storeError(err)
		return
	}
	w.rev = ack.Sequence
	s.proof.set()
}

// wrongLastSequenceInFlight is the server's code for a write that another one, which isn't done yet, makes conflict.
const wrongLastSequenceInFlight jetstream.ErrorCode = 10164

// storeError tells a conflict from what leaves open whether the write was done.
func storeError(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == wrongLastSequenceInFlight) {
		return errConflict
	}
	return errors.Join(ErrAway, err)
}
