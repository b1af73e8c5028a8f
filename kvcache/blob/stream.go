package blob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache"
	"millrace/node"
)

// stream is the truth about which blobs there are. Chunk n of a blob is the message with the subject
// <prefix>blob.<digest>.<n>. Chunk 0 is written last, so its presence means that the blob is whole.
type stream struct {
	cfg  *Config
	name string
	api  string // prefix of the subjects of JetStream's API

	mu    sync.Mutex // guards ready; held while the stream is being opened
	ready bool
}

// askTime is how long a request to the stream may take; askPause is the time until the next attempt.
const (
	askTime  = 5 * time.Second
	askPause = 50 * time.Millisecond
)

func newStream(cfg *Config) stream {
	api := jetstream.DefaultAPIPrefix
	switch o := cfg.JetStream.Options(); {
	case o.Domain != "":
		api = "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		api = strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return stream{cfg: cfg, name: kvcache.BucketName(cfg.Prefix, "blobs"), api: api}
}

// subject returns the subject of a chunk.
func (s *stream) subject(digest node.Digest, n int) string {
	return s.cfg.Prefix + "blob." + digest.String() + "." + strconv.Itoa(n)
}

// chunkOf reads what subject writes.
func (s *stream) chunkOf(subject string) (digest node.Digest, n int, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.cfg.Prefix+"blob.")
	if !ok {
		return digest, 0, false
	}
	name, number, ok := strings.Cut(rest, ".")
	if !ok {
		return digest, 0, false
	}
	digest, err := node.ParseDigest(name)
	if err != nil {
		return digest, 0, false
	}
	n, err = strconv.Atoi(number)
	return digest, n, err == nil && n >= 0
}

// ensure opens the stream, or creates it.
func (s *stream) ensure(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	_, err := kvcache.OpenStream(ctx, s.cfg.NATS, s.cfg.JetStream, jetstream.StreamConfig{
		Name: s.name, Description: "Millrace: contents of files", Subjects: []string{s.cfg.Prefix + "blob.*.*"},
		Storage: jetstream.FileStorage, Replicas: s.cfg.Replicas, MaxMsgsPerSubject: 1, MaxBytes: s.cfg.StreamBytes,
		Discard: jetstream.DiscardNew, AllowDirect: true,
	}, kvcache.SizeFollows)
	if err != nil {
		return fmt.Errorf("open the stream of blobs: %w", away(err))
	}
	s.ready = true
	return nil
}

// lost notes that nobody answers for the stream: it may have been deleted.
func (s *stream) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = false
}

// away makes ErrAway of an error that may go away by itself.
func away(err error) error {
	if passing(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kvcache.ErrAway) {
		return errors.Join(ErrAway, err)
	}
	return err
}

// info is what the leader says of the stream.
type info struct {
	Total int `json:"total"`
	State struct {
		Bytes    int64          `json:"bytes"`
		LastSeq  uint64         `json:"last_seq"`
		Subjects map[string]int `json:"subjects"`
	} `json:"state"`
	Error *jetstream.APIError `json:"error"`
}

// info asks the leader for the stream's state and for the subjects from offset on that match filter, at most 100,000.
func (s *stream) info(ctx context.Context, filter string, offset int) (*info, error) {
	ask, err := json.Marshal(map[string]any{"subjects_filter": filter, "offset": offset})
	if err != nil {
		return nil, err
	}
	var out info
	return &out, s.call(ctx, "STREAM.INFO."+s.name, ask, &out, &out.Error)
}

// call makes a request to JetStream's API until it is answered or ctx ends. problem is where the answer has its error.
func (s *stream) call(ctx context.Context, what string, ask []byte, answer any, problem **jetstream.APIError) error {
	for {
		try, cancel := context.WithTimeout(ctx, askTime)
		msg, err := s.cfg.NATS.RequestWithContext(try, s.api+what, ask)
		cancel()
		if err == nil {
			if err := json.Unmarshal(msg.Data, answer); err != nil {
				return fmt.Errorf("read the answer to %s: %w", what, err)
			}
			if *problem != nil {
				return *problem
			}
			return nil
		}
		if !pause(ctx) {
			return fmt.Errorf("ask %s: %w", what, errors.Join(ErrAway, err, context.Cause(ctx)))
		}
	}
}

// pause waits before the next attempt, and reports whether ctx goes on.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(askPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// each calls f for every chunk in the stream whose subject matches <prefix>blob.<filter>.
func (s *stream) each(ctx context.Context, filter string, f func(digest node.Digest, n int)) error {
	for offset := 0; ; {
		got, err := s.info(ctx, s.cfg.Prefix+"blob."+filter, offset)
		if err != nil {
			return err
		}
		for subject := range got.State.Subjects {
			if digest, n, ok := s.chunkOf(subject); ok {
				f(digest, n)
			}
		}
		offset += len(got.State.Subjects)
		if len(got.State.Subjects) == 0 || offset >= got.Total {
			return nil
		}
	}
}
