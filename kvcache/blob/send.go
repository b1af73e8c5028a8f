package blob

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/node"
)

// sendTime is how long a chunk is tried to be sent, and sendTry how long one attempt waits for the acknowledgement.
const (
	sendTime = 30 * time.Second
	sendTry  = 5 * time.Second
)

// publish writes a chunk into the stream and returns when it is stored there.
func (s *Store) publish(ctx context.Context, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	for {
		if err := s.stream.ensure(ctx); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, sendTry)
		_, err := s.cfg.JetStream.Publish(try, subject, data, jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return nil
		}
		switch c := code(err); {
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			s.stream.lost()
		case c == codeResourcesExceeded || c == codeAccountExceeded || c == codeInsufficient:
			return errors.Join(ErrFull, err)
		case c == codeStoreFailed:
			return s.refused(ctx, len(subject)+len(data), err)
		case c != 0:
			return err
		}
		if !pause(ctx) {
			return errors.Join(ErrAway, err, context.Cause(ctx))
		}
	}
}

// refused returns ErrFull if the stream refused a message since it is full. JetStream has one code for that and for
// failures of its disk, so the size of the stream decides.
func (s *Store) refused(ctx context.Context, size int, why error) error {
	got, err := s.stream.info(ctx, "", 0)
	if err == nil && got.State.Bytes+int64(size)+sendBytes > s.cfg.StreamBytes {
		return errors.Join(ErrFull, why)
	}
	return errors.Join(why, err)
}

// sendSmall sends a blob of one chunk, which data is. Its bytes were taken from the window by the caller. It is sent
// also if the stream has it: so it is young again (DESIGN.md, "Why nothing that is wanted is lost").
func (s *Store) sendSmall(ctx context.Context, b *node.Blob, data []byte) error {
	if err := s.publish(ctx, s.stream.subject(b.Digest, 0), data); err != nil {
		return fmt.Errorf("send blob %v: %w", b.Digest, err)
	}
	return nil
}
