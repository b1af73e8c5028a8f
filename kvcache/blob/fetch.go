package blob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/node"
)

// part is one chunk of a blob.
type part struct {
	blob *node.Blob
	n    int
}

func (p part) size() int64 { return p.blob.PartSize(p.n) }

// right reports whether data is the chunk.
func (p part) right(data []byte) bool {
	return int64(len(data)) == p.size() && node.DigestOf(data) == p.blob.PartDigest(p.n)
}

// Limits of one request for several chunks. JetStream sends 1,024 messages at most.
const (
	batchParts = 512
	batchBytes = 4 << 20
	// batchIdle is how long the next message of an answer may take.
	batchIdle = 2 * time.Second
	// fetchTime is how long chunks are asked for while nobody answers.
	fetchTime = 20 * time.Second
)

// fetch fetches chunks and calls got with each, once it was checked. The calls come from several goroutines, in any
// order. It ends with the first error: of got, or ErrMissing, ErrAway.
func (s *Store) fetch(ctx context.Context, parts []part, got func(p part, data []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var asking sync.WaitGroup
	for len(parts) > 0 {
		batch := cut(&parts)
		select {
		case s.asks <- struct{}{}:
		case <-ctx.Done():
			asking.Wait()
			return context.Cause(ctx)
		}
		asking.Go(func() {
			defer func() { <-s.asks }()
			if err := s.fetchBatch(ctx, batch, got); err != nil {
				cancel(err)
			}
		})
	}
	asking.Wait()
	return context.Cause(ctx)
}

// cut takes as many parts as one request may ask for.
func cut(parts *[]part) []part {
	size := int64(0)
	for i, p := range *parts {
		if size += p.size(); i == batchParts || (i > 0 && size > batchBytes) {
			batch := (*parts)[:i]
			*parts = (*parts)[i:]
			return batch
		}
	}
	batch := *parts
	*parts = nil
	return batch
}

// fetchBatch fetches chunks from where they are: on a far node from one that is nearer, then from the replica of the
// stream that answers. What that lacks is asked of the leader, which alone knows that there is no such chunk, and then
// of the other nodes.
func (s *Store) fetchBatch(ctx context.Context, batch []part, got func(part, []byte) error) (err error) {
	if s.cfg.Far {
		batch, err = s.fromHolders(ctx, batch, got)
	}
	if err == nil && len(batch) > 0 {
		batch, err = s.direct(ctx, batch, got)
	}
	for i := 0; err == nil && i < len(batch); i++ {
		err = s.fetchOne(ctx, batch[i], got)
	}
	return err
}

func (s *Store) fetchOne(ctx context.Context, p part, got func(part, []byte) error) error {
	data, err := s.fromLeader(ctx, p)
	if err == nil {
		return got(p, data)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.counts.failed.Add(1)
	left, other := s.fromHolders(ctx, []part{p}, got)
	if other != nil || len(left) == 0 {
		return other
	}
	return fmt.Errorf("fetch chunk %d of blob %v: %w", p.n, p.blob.Digest, err)
}

// direct fetches chunks by one request to JetStream's direct get, which any replica of the stream answers: a message
// for each subject that it has, in any order, and one with the status 204 at the end. It returns those that didn't
// come.
func (s *Store) direct(ctx context.Context, batch []part, got func(part, []byte) error) (left []part, err error) {
	wanted := make(map[string]part, len(batch))
	subjects := make([]string, 0, len(batch))
	for _, p := range batch {
		subject := s.stream.subject(p.blob.Digest, p.n)
		wanted[subject] = p
		subjects = append(subjects, subject)
	}
	ask, err := json.Marshal(map[string]any{"multi_last": subjects, "max_bytes": 2 * batchBytes})
	if err != nil {
		return nil, err
	}
	err = s.answers(ctx, s.stream.api+"DIRECT.GET."+s.stream.name, ask, func(msg *nats.Msg) (bool, error) {
		if msg.Header.Get("Status") != "" {
			return true, nil
		}
		subject := msg.Header.Get(jetstream.SubjectHeader)
		p, ok := wanted[subject]
		if !ok {
			return false, nil
		}
		if !p.right(msg.Data) {
			s.wrongChunk(p)
			return false, nil // it is left
		}
		delete(wanted, subject)
		s.counts.fetched.Add(int64(len(msg.Data)))
		return false, got(p, msg.Data)
	})
	for _, p := range batch {
		if _, ok := wanted[s.stream.subject(p.blob.Digest, p.n)]; ok {
			left = append(left, p)
		}
	}
	return left, err
}

// answers makes a request and calls got with each answer until it reports the last one. That nobody answers, or not in
// time, isn't an error. It returns those of got and of ctx.
func (s *Store) answers(ctx context.Context, subject string, ask []byte, got func(*nats.Msg) (last bool, err error),
) error {
	inbox := s.cfg.NATS.NewInbox()
	sub, err := s.cfg.NATS.SubscribeSync(inbox)
	if err != nil {
		return errors.Join(ErrAway, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	if err := sub.SetPendingLimits(4*batchParts, 8*batchBytes); err != nil {
		return errors.Join(ErrAway, err)
	}
	if err := s.cfg.NATS.PublishRequest(subject, inbox, ask); err != nil {
		return errors.Join(ErrAway, err)
	}
	for {
		try, cancel := context.WithTimeout(ctx, batchIdle)
		msg, err := sub.NextMsgWithContext(try)
		cancel()
		if err != nil {
			s.counts.failed.Add(1)
			return context.Cause(ctx)
		}
		if last, err := got(msg); last || err != nil {
			return err
		}
	}
}

// wrongChunk notes that somebody sent a chunk with wrong bytes.
func (s *Store) wrongChunk(p part) {
	s.counts.bad.Add(1)
	s.cfg.Log.Warn("a chunk of a blob came with wrong bytes; it is asked for elsewhere",
		slog.String("digest", p.blob.Digest.String()), slog.Int("chunk", p.n))
}

// fromLeader fetches a chunk from the leader of the stream, which knows for sure whether it is there.
func (s *Store) fromLeader(ctx context.Context, p part) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	ask, err := json.Marshal(map[string]string{"last_by_subj": s.stream.subject(p.blob.Digest, p.n)})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Message struct {
			Data []byte `json:"data"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	err = s.stream.call(ctx, "STREAM.MSG.GET."+s.stream.name, ask, &answer, &answer.Error)
	if c := code(err); c == jetstream.JSErrCodeMessageNotFound || c == jetstream.JSErrCodeStreamNotFound {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, err
	}
	if !p.right(answer.Message.Data) {
		s.wrongChunk(p)
		return nil, errors.Join(ErrMissing, ErrDigest)
	}
	s.counts.fetched.Add(int64(len(answer.Message.Data)))
	return answer.Message.Data, nil
}
