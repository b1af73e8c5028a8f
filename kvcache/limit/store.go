package limit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
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

// streamStore keeps the records in a JetStream stream that opens as a KV bucket: one subject for each key, of which the
// last message counts. A message leaves when nobody can count on it any more.
type streamStore struct {
	cfg    *Config
	js     jetstream.JetStream
	name   string // of the bucket
	group  *group // writes together what comes at once; nil where the stream's replicas do so
	opened atomic.Bool
	cause  atomic.Pointer[error] // why it couldn't be opened
	seen   atomic.Uint64         // the revision of the last write that was acknowledged
	loss   atomic.Pointer[loss]  // the last one that was found; nil if there was none
}

// loss is writes that were acknowledged and that the stream doesn't have any more.
type loss struct {
	at       time.Time // when it was found
	from, to uint64    // where the stream was, and is
}

func bucketName(prefix string) string { return kvcache.BucketName(prefix, "limits") }

// StreamName names the stream of the records. prefix is that of the mesh's subjects.
func StreamName(prefix string) string { return "KV_" + bucketName(prefix) }

func newStreamStore(cfg *Config, js jetstream.JetStream) *streamStore {
	s := &streamStore{cfg: cfg, js: js, name: bucketName(cfg.Prefix)}
	if cfg.Replicas == 1 {
		s.group = newGroup(s)
	}
	if cfg.Mark != nil {
		s.seen.Store(cfg.Mark.Load())
	}
	return s
}

func (s *streamStore) subject(key Key) string { return "$KV." + s.name + "." + key.String() }

// open finds the stream or makes it.
func (s *streamStore) open(ctx context.Context) error {
	stream, err := kvcache.OpenStream(ctx, s.cfg.NATS, s.js, jetstream.StreamConfig{
		Name: StreamName(s.cfg.Prefix), Description: "Millrace: what is free of each limit",
		Subjects: []string{"$KV." + s.name + ".>"},
		Storage:  jetstream.FileStorage, Replicas: s.cfg.Replicas, MaxMsgsPerSubject: 1, MaxBytes: s.cfg.StoreBytes,
		Discard:     jetstream.DiscardNew,
		AllowRollup: true, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	}, kvcache.SizeGrows)
	if err != nil {
		s.cause.Store(&err)
		return err //nolint:wrapcheck // the caller says what it was for
	}
	if last := stream.CachedInfo().State.LastSeq; last < s.seen.Load() {
		s.lost(s.seen.Load(), last)
	}
	s.opened.Store(true)
	return nil
}

// lost notes that the stream isn't where it was.
func (s *streamStore) lost(from, to uint64) {
	s.seen.Store(to)
	s.loss.Store(&loss{time.Now(), from, to})
	s.cfg.Log.Error("the store of limits has lost acknowledged records: clients may get a part of their allowance a "+
		"second time", "was_at", from, "is_at", to)
}

// saw notes the revision of a write that was acknowledged. before is what was seen when it was sent: revisions only
// grow.
func (s *streamStore) saw(rev, before uint64) {
	if rev <= before {
		s.lost(before, rev)
		return
	}
	for {
		now := s.seen.Load()
		if now >= rev || s.seen.CompareAndSwap(now, rev) {
			return
		}
	}
}

func (s *streamStore) isOpen() bool { return s.opened.Load() }

func (s *streamStore) run(ctx context.Context) {
	var running sync.WaitGroup
	if s.group != nil {
		running.Go(func() { s.group.run(ctx) })
	}
	if s.cfg.Mark != nil {
		running.Go(func() { s.remember(ctx) })
	}
	running.Wait()
	<-ctx.Done()
	s.opened.Store(false)
}

// markEvery is how often the node remembers where the stream is. What is lost of the time since then isn't found out by
// a node that has started again.
const markEvery = 5 * time.Second

// remember keeps the mark until ctx ends.
func (s *streamStore) remember(ctx context.Context) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	saved := s.seen.Load()
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		if seen := s.seen.Load(); seen != saved {
			if err := s.cfg.Mark.Save(seen); err != nil {
				s.cfg.Log.WarnContext(ctx, "it can't be remembered how far the store of limits is", "cause", err)
			}
			saved = seen
		}
	}
}

// errClosed is for questions before the stream is known, and after the end.
var errClosed = errors.New("the stream isn't open")

// get reads a record: from whichever replica is near, or from the one that leads.
func (s *streamStore) get(ctx context.Context, key Key, fresh bool) (stored, error) {
	if !s.opened.Load() {
		return stored{}, failure{errNobody, errClosed}
	}
	if fresh && s.cfg.Replicas > 1 {
		return s.getFromLeader(ctx, key)
	}
	return s.read(ctx, key)
}

// read asks whichever replica is near.
func (s *streamStore) read(ctx context.Context, key Key) (stored, error) {
	msg, err := s.cfg.NATS.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_"+s.name+"."+s.subject(key), nil)
	if err != nil {
		return stored{}, notTaken(err)
	}
	if status := msg.Header.Get("Status"); status != "" {
		if status == strconv.Itoa(http.StatusNotFound) {
			return stored{}, nil
		}
		return stored{}, failure{errRefused, errors.New("status " + status + " " + msg.Header.Get("Description"))}
	}
	rev, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return stored{}, failure{errRefused, err}
	}
	return withMark(stored{value: msg.Data, rev: rev}, msg.Header), nil
}

func (s *streamStore) getFromLeader(ctx context.Context, key Key) (stored, error) {
	var out struct {
		apiReply
		Message struct {
			Seq    uint64 `json:"seq"`
			Data   []byte `json:"data"`
			Header []byte `json:"hdrs"`
		} `json:"message"`
	}
	err := s.api(ctx, "MSG.GET", `{"last_by_subj":"`+s.subject(key)+`"}`, &out, &out.apiReply)
	switch {
	case out.Error != nil && out.Error.Code == http.StatusNotFound:
		return stored{}, nil
	case err != nil:
		return stored{}, err
	}
	v := stored{value: out.Message.Data, rev: out.Message.Seq}
	if h, err := nats.DecodeHeadersMsg(out.Message.Header); err == nil {
		v = withMark(v, h)
	}
	return v, nil
}

// put replaces a record.
func (s *streamStore) put(ctx context.Context, key Key, v stored, keep time.Duration) (uint64, error) {
	if !s.opened.Load() {
		return 0, failure{errNobody, errClosed}
	}
	w, before := &write{ctx: ctx, msg: s.message(key, &v, keep), done: make(chan struct{})}, s.seen.Load()
	var err error
	if s.group != nil {
		err = s.group.put(ctx, w)
	} else if s.publish(w); w.err != nil {
		err = w.err
	}
	if err != nil {
		return 0, err
	}
	s.saw(w.rev, before)
	return w.rev, nil
}

// last asks the server that leads the stream.
func (s *streamStore) last(ctx context.Context) (uint64, error) {
	var out struct {
		apiReply
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := s.api(ctx, "INFO", "", &out, &out.apiReply); err != nil {
		return 0, err
	}
	return out.State.Last, nil
}

// drop removes what there is of a record, though it can't be read.
func (s *streamStore) drop(ctx context.Context, key Key, upTo uint64) error {
	var out apiReply
	return s.api(ctx, "PURGE", `{"filter":"`+s.subject(key)+`","seq":`+strconv.FormatUint(upTo+1, 10)+`}`, &out, &out)
}

// apiReply is what all answers of JetStream's API have.
type apiReply struct {
	Error *jetstream.APIError `json:"error"`
}

// api asks JetStream about the stream. It reads the answer into out, of which reply is a part.
func (s *streamStore) api(ctx context.Context, what, question string, out any, reply *apiReply) error {
	msg, err := s.cfg.NATS.RequestWithContext(ctx, "$JS.API.STREAM."+what+"."+StreamName(s.cfg.Prefix),
		[]byte(question))
	if err != nil {
		return notTaken(err)
	}
	switch err := json.Unmarshal(msg.Data, out); {
	case err != nil:
		return failure{errRefused, err}
	case reply.Error != nil:
		return apiError(reply.Error)
	}
	return nil
}

// markField holds who wrote a record when: a number that no other write has, and the writer's time.
const markField = "Millrace-Mark"

func (s *streamStore) message(key Key, v *stored, keep time.Duration) *nats.Msg {
	msg := &nats.Msg{Subject: s.subject(key), Data: v.value, Header: nats.Header{}}
	msg.Header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(v.rev, 10)}
	msg.Header["Nats-TTL"] = []string{strconv.FormatInt(int64(keep/time.Second)+1, 10)}
	msg.Header[markField] = []string{strconv.FormatUint(v.mark, 36) + " " + strconv.FormatInt(v.wrote, 36)}
	return msg
}

// withMark reads what message has written. Records of earlier releases have none.
func withMark(v stored, h nats.Header) stored {
	mark, wrote, _ := strings.Cut(h.Get(markField), " ")
	var err error
	if v.mark, err = strconv.ParseUint(mark, 36, 64); err != nil {
		v.mark = 0
	}
	if v.wrote, err = strconv.ParseInt(wrote, 36, 64); err != nil {
		v.wrote = 0
	}
	return v
}

// publish sends one write on its own.
func (s *streamStore) publish(w *write) {
	ack, err := s.js.PublishMsg(w.ctx, w.msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		w.err = storeError(err)
		return
	}
	w.rev = ack.Sequence
}

// The server's codes for a write that another one, which isn't done yet, makes conflict; and for an API question or a
// write that the cluster can't serve at the moment.
const (
	wrongLastSequenceInFlight jetstream.ErrorCode = 10164
	clusterNotAvailable       jetstream.ErrorCode = 10008
	clusterNotLeader          jetstream.ErrorCode = 10009
)

// storeError tells what is known of a write that failed.
func storeError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return notTaken(nats.ErrNoResponders)
	case errors.As(err, &api):
		return apiError(api)
	}
	return notTaken(err)
}

var (
	errNoNATS   = errors.New("the connection to NATS is away")
	errNoLeader = errors.New("no server leads the stream, or has it")
	errSilent   = errors.New("the server that leads the stream doesn't answer")
)

// notTaken marks the errors of questions that reached nobody.
func notTaken(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return failure{errNobody, errNoLeader}
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return failure{errNobody, errNoNATS}
	case errors.Is(err, context.DeadlineExceeded):
		return errSilent
	}
	return err
}

func apiError(err *jetstream.APIError) error {
	switch err.ErrorCode { //nolint:exhaustive // there are hundreds
	case jetstream.JSErrCodeStreamWrongLastSequence:
		return errConflict
	case wrongLastSequenceInFlight:
		return errBusy
	case clusterNotAvailable, clusterNotLeader:
		return err
	}
	return failure{errRefused, err}
}
