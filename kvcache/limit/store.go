package limit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
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
	cfg    *Config
	js     jetstream.JetStream
	name   string // of the bucket
	group  *group // writes together what comes at once; nil where the stream's replicas do so
	opened atomic.Bool
	cause  atomic.Pointer[error] // why it couldn't be opened
}

func newStreamStore(cfg *Config, js jetstream.JetStream) *streamStore {
	s := &streamStore{cfg: cfg, js: js, name: kvcache.BucketName(cfg.Prefix, "limits")}
	if cfg.Replicas == 1 {
		s.group = newGroup(s)
	}
	return s
}

func (s *streamStore) subject(key Key) string { return "$KV." + s.name + "." + key.String() }

// open finds the stream or makes it.
func (s *streamStore) open(ctx context.Context) error {
	_, err := kvcache.OpenStream(ctx, s.cfg.NATS, s.js, jetstream.StreamConfig{
		Name: "KV_" + s.name, Description: "Millrace: what is free of each limit", Subjects: []string{"$KV." + s.name + ".>"},
		Storage: jetstream.FileStorage, Replicas: s.cfg.Replicas, MaxMsgsPerSubject: 1, MaxBytes: s.cfg.StoreBytes, Discard: jetstream.DiscardNew,
		AllowRollup: true, AllowDirect: true, AllowMsgTTL: true, AllowAtomicPublish: true,
	}, kvcache.SizeGrows)
	if err != nil {
		s.cause.Store(&err)
		return err //nolint:wrapcheck // the caller says what it was for
	}
	s.opened.Store(true)
	return nil
}

func (s *streamStore) isOpen() bool { return s.opened.Load() }

func (s *streamStore) run(ctx context.Context) {
	defer s.opened.Store(false)
	if s.group != nil {
		s.group.run(ctx)
	}
	<-ctx.Done()
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
	reply, err := s.cfg.NATS.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+s.name, []byte(`{"last_by_subj":"`+s.subject(key)+`"}`))
	if err != nil {
		return stored{}, notTaken(err)
	}
	var out struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq    uint64 `json:"seq"`
			Data   []byte `json:"data"`
			Header []byte `json:"hdrs"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(reply.Data, &out); {
	case err != nil:
		return stored{}, failure{errRefused, err}
	case out.Error != nil && out.Error.Code == http.StatusNotFound:
		return stored{}, nil
	case out.Error != nil:
		return stored{}, apiError(out.Error)
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
	w := &write{ctx: ctx, msg: s.message(key, &v, keep), done: make(chan struct{})}
	if s.group != nil {
		return s.group.put(ctx, w)
	}
	s.publish(w)
	return w.rev, w.err
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

// The server's codes for a write that another one, which isn't done yet, makes conflict; and for an API question or a write that the cluster can't serve
// at the moment.
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
