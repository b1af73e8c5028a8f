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

// StoreBytes is the maximal size of the stream of records if Config sets none. It holds some three million keys. When
// the stream is full, new keys get no record, as if the store were away. Old records aren't dropped to make room,
// because that would give their clients a fresh allowance.
const StoreBytes = 512 << 20

// streamStore keeps the records in a JetStream stream that can be opened as a KV bucket: one subject per key, of which
// the last message counts. Messages expire when no node relies on them any more.
type streamStore struct {
	cfg     *Config
	js      jetstream.JetStream
	name    string   // of the bucket
	batcher *batcher // combines concurrent writes; nil if the stream has replicas, which do that themselves
	opened  atomic.Bool
	cause   atomic.Pointer[error] // why the stream couldn't be opened
	acked   atomic.Uint64         // revision of the latest acknowledged write
	loss    atomic.Pointer[loss]  // the last loss that was found; nil if there was none
}

// loss describes acknowledged writes that the stream has lost.
type loss struct {
	at       time.Time // when it was found
	from, to uint64    // last revision before and after
}

func bucketName(prefix string) string { return kvcache.BucketName(prefix, "limits") }

// StreamName returns the name of the stream. prefix is that of the mesh's subjects.
func StreamName(prefix string) string { return "KV_" + bucketName(prefix) }

func newStreamStore(cfg *Config, js jetstream.JetStream) *streamStore {
	s := &streamStore{cfg: cfg, js: js, name: bucketName(cfg.Prefix)}
	if cfg.Replicas == 1 {
		s.batcher = newBatcher(s)
	}
	if cfg.Mark != nil {
		s.acked.Store(cfg.Mark.Load())
	}
	return s
}

func (s *streamStore) subject(key Key) string { return "$KV." + s.name + "." + key.String() }

// open opens the stream, or creates it.
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
		return err // the caller wraps it
	}
	if last := stream.CachedInfo().State.LastSeq; last < s.acked.Load() {
		s.noteLoss(s.acked.Load(), last)
	}
	s.opened.Store(true)
	return nil
}

// noteLoss notes that the stream has lost acknowledged writes.
func (s *streamStore) noteLoss(from, to uint64) {
	s.acked.Store(to)
	s.loss.Store(&loss{time.Now(), from, to})
	s.cfg.Log.Error("the store of limits has lost acknowledged records: clients may get a part of their allowance a "+
		"second time", "was_at", from, "is_at", to)
}

// noteRevision notes the revision of an acknowledged write. before is the latest revision when the write was sent:
// revisions only grow.
func (s *streamStore) noteRevision(rev, before uint64) {
	if rev <= before {
		s.noteLoss(before, rev)
		return
	}
	for {
		now := s.acked.Load()
		if now >= rev || s.acked.CompareAndSwap(now, rev) {
			return
		}
	}
}

func (s *streamStore) isOpen() bool { return s.opened.Load() }

func (s *streamStore) run(ctx context.Context) {
	var running sync.WaitGroup
	if s.batcher != nil {
		running.Go(func() { s.batcher.run(ctx) })
	}
	if s.cfg.Mark != nil {
		running.Go(func() { s.keepMark(ctx) })
	}
	running.Wait()
	<-ctx.Done()
	s.opened.Store(false)
}

// markEvery is how often the latest revision is saved. After a restart, losses of later writes aren't found.
const markEvery = 5 * time.Second

// keepMark saves the latest revision until ctx ends, and once more then.
func (s *streamStore) keepMark(ctx context.Context) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	saved := s.acked.Load()
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		if acked := s.acked.Load(); acked != saved {
			if err := s.cfg.Mark.Save(acked); err != nil {
				s.cfg.Log.WarnContext(ctx, "it can't be remembered how far the store of limits is", "cause", err)
			}
			saved = acked
		}
	}
}

// errClosed is returned before the stream is open and after it is closed.
var errClosed = errors.New("the stream isn't open")

// get reads a record, from the nearest replica or if fresh from the leader.
func (s *streamStore) get(ctx context.Context, key Key, fresh bool) (stored, error) {
	if !s.opened.Load() {
		return stored{}, failure{errNoResponder, errClosed}
	}
	if fresh && s.cfg.Replicas != 1 {
		return s.getFromLeader(ctx, key)
	}
	return s.read(ctx, key)
}

// read reads a record from the nearest replica.
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
	return withWriteID(stored{value: msg.Data, rev: rev}, msg.Header), nil
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
		v = withWriteID(v, h)
	}
	return v, nil
}

// put replaces a record.
func (s *streamStore) put(ctx context.Context, key Key, v stored, keep time.Duration) (uint64, error) {
	if !s.opened.Load() {
		return 0, failure{errNoResponder, errClosed}
	}
	w, before := &pendingWrite{ctx: ctx, msg: s.message(key, &v, keep), done: make(chan struct{})}, s.acked.Load()
	var err error
	if s.batcher != nil {
		err = s.batcher.put(ctx, w)
	} else if s.publish(w); w.err != nil {
		err = w.err
	}
	if err != nil {
		return 0, err
	}
	s.noteRevision(w.rev, before)
	return w.rev, nil
}

// last asks the leader for the stream's last revision.
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

// drop removes the record of a key, even one that can't be read.
func (s *streamStore) drop(ctx context.Context, key Key, upTo uint64) error {
	var out apiReply
	return s.api(ctx, "PURGE", `{"filter":"`+s.subject(key)+`","seq":`+strconv.FormatUint(upTo+1, 10)+`}`, &out, &out)
}

// apiReply is the common part of all replies of JetStream's API.
type apiReply struct {
	Error *jetstream.APIError `json:"error"`
}

// api sends a request about the stream to JetStream. It decodes the reply into out, of which reply is a part.
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

// writeIDField has the ID of the write, which no other write has, and the writer's time.
const writeIDField = "Millrace-Mark"

func (s *streamStore) message(key Key, v *stored, keep time.Duration) *nats.Msg {
	msg := &nats.Msg{Subject: s.subject(key), Data: v.value, Header: nats.Header{}}
	msg.Header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(v.rev, 10)}
	msg.Header["Nats-TTL"] = []string{strconv.FormatInt(int64(keep/time.Second)+1, 10)}
	msg.Header[writeIDField] = []string{strconv.FormatUint(v.writeID, 36) + " " + strconv.FormatInt(v.writtenAt, 36)}
	return msg
}

// withWriteID decodes what message has encoded. Records of earlier releases have neither.
func withWriteID(v stored, h nats.Header) stored {
	id, writtenAt, _ := strings.Cut(h.Get(writeIDField), " ")
	var err error
	if v.writeID, err = strconv.ParseUint(id, 36, 64); err != nil {
		v.writeID = 0
	}
	if v.writtenAt, err = strconv.ParseInt(writtenAt, 36, 64); err != nil {
		v.writtenAt = 0
	}
	return v
}

// publish sends one write on its own.
func (s *streamStore) publish(w *pendingWrite) {
	ack, err := s.js.PublishMsg(w.ctx, w.msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		w.err = storeError(err)
		return
	}
	w.rev = ack.Sequence
}

// Server error codes: a write conflicts with another one in progress; and the cluster can't serve an API request or a
// write at the moment.
const (
	wrongLastSequenceInFlight jetstream.ErrorCode = 10164
	clusterNotAvailable       jetstream.ErrorCode = 10008
	clusterNotLeader          jetstream.ErrorCode = 10009
)

// storeError converts the error of a write into what is known about it.
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

// notTaken marks errors of requests that reached no server.
func notTaken(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return failure{errNoResponder, errNoLeader}
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return failure{errNoResponder, errNoNATS}
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
