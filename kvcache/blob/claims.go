package blob

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"millrace/kvcache"
	"millrace/node"
)

// claims keeps publishers and the collection of garbage apart (DESIGN.md, "Why nothing that is wanted is lost"). It is
// a stream of its own, since it must take messages when the blobs' stream is full. Its subjects are
// <prefix>blobclaim.c.<id>: digests that somebody is about to name, each by its first 8 bytes; and
// <prefix>blobclaim.state: whether somebody is purging blobs.
type claims struct {
	cfg  *Config
	name string

	mu     sync.Mutex // guards stream; held while it is being opened
	stream jetstream.Stream

	// stale is how long a state may stay what it is before others take its author for dead, and phase how long the
	// author may go on after writing it: much less.
	stale, phase time.Duration
}

const (
	claimBytes  = 64 << 20 // all claims
	claimEach   = 32 << 10 // digests in one message
	claimPrefix = 8        // bytes of a digest
	// MaxGrace is the longest time for which a blob is kept that nobody wants.
	MaxGrace = 24 * time.Hour
)

// state is whether somebody is purging blobs.
type state struct {
	Collecting bool   `json:"collecting"`
	By         string `json:"by"`
	revision   uint64
}

func newClaims(cfg *Config) claims {
	return claims{
		cfg: cfg, name: kvcache.BucketName(cfg.Prefix, "blobclaims"), stale: 30 * time.Second, phase: 10 * time.Second,
	}
}

func (c *claims) subject(what string) string { return c.cfg.Prefix + "blobclaim." + what }

func (c *claims) open(ctx context.Context) (jetstream.Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil {
		return c.stream, nil
	}
	stream, err := kvcache.OpenStream(ctx, c.cfg.NATS, c.cfg.JetStream, jetstream.StreamConfig{
		Name: c.name, Description: "Millrace: files that are being published", Replicas: c.cfg.Replicas,
		Subjects: []string{c.subject(">")}, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, MaxBytes: claimBytes,
		MaxAge: 2 * MaxGrace, Discard: jetstream.DiscardNew,
	}, kvcache.SizeStays)
	if err != nil {
		return nil, fmt.Errorf("open the stream of claims: %w", away(err))
	}
	c.stream = stream
	return stream, nil
}

// claim keeps blobs, whether they are there or not, from being collected for the next grace, and returns when no purge
// is under way that doesn't know of it.
func (s *Store) claim(ctx context.Context, blobs []node.Blob) error {
	prefixes := make([]uint64, len(blobs))
	for i := range blobs {
		prefixes[i] = prefixOf(blobs[i].Digest)
	}
	slices.Sort(prefixes)
	if _, err := s.claims.open(ctx); err != nil {
		return err
	}
	for part := range slices.Chunk(slices.Compact(prefixes), claimEach) {
		data := make([]byte, 0, len(part)*claimPrefix)
		for _, p := range part {
			data = binary.BigEndian.AppendUint64(data, p)
		}
		id := sha256.Sum256(data) // the same claim replaces itself
		if err := s.claims.publish(ctx, "c."+hex.EncodeToString(id[:16]), data); err != nil {
			return fmt.Errorf("claim blobs: %w", err)
		}
	}
	return s.claims.awaitPurge(ctx)
}

func prefixOf(digest node.Digest) uint64 { return binary.BigEndian.Uint64(digest[:claimPrefix]) }

// publish writes a message. Attempts are repeated until ctx ends.
func (c *claims) publish(ctx context.Context, what string, data []byte, opts ...jetstream.PublishOpt) error {
	opts = append(opts, jetstream.WithRetryAttempts(0))
	for {
		try, cancel := context.WithTimeout(ctx, sendTry)
		_, err := c.cfg.JetStream.Publish(try, c.subject(what), data, opts...)
		cancel()
		switch {
		case err == nil:
			return nil
		case code(err) == codeStoreFailed:
			return errors.Join(ErrFull, err)
		case code(err) != 0:
			return err
		case !pause(ctx):
			return errors.Join(ErrAway, err, context.Cause(ctx))
		}
	}
}

// state returns the state as the leader has it.
func (c *claims) state(ctx context.Context) (now state, err error) {
	for {
		stream, err := c.open(ctx)
		if err != nil {
			return now, err
		}
		try, cancel := context.WithTimeout(ctx, askTime)
		msg, err := stream.GetLastMsgForSubject(try, c.subject("state"))
		cancel()
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return now, nil
		case err == nil:
			if err := json.Unmarshal(msg.Data, &now); err != nil {
				return now, fmt.Errorf("read the state of the collection: %w", err)
			}
			now.revision = msg.Sequence
			return now, nil
		case code(err) != 0:
			return now, err
		case !pause(ctx):
			return now, errors.Join(ErrAway, err, context.Cause(ctx))
		}
	}
}

// set replaces the state if it is still was.
func (c *claims) set(ctx context.Context, was state, collecting bool) (state, error) {
	now := state{Collecting: collecting, By: nuid.Next()}
	data, err := json.Marshal(now)
	if err != nil {
		return now, err
	}
	err = c.publish(ctx, "state", data, jetstream.WithExpectLastSequencePerSubject(was.revision))
	if err != nil {
		// An attempt that wasn't acknowledged may have been stored: then the state is ours.
		seen, again := c.state(ctx)
		if again != nil || seen.By != now.By {
			return now, errors.Join(err, again)
		}
		return seen, nil
	}
	return c.mine(ctx, now)
}

// mine returns the state that was just written, with its revision.
func (c *claims) mine(ctx context.Context, wrote state) (state, error) {
	now, err := c.state(ctx)
	if err == nil && now.By != wrote.By {
		err = errOvertaken
	}
	return now, err
}

var errOvertaken = errors.New("somebody else collects blobs")

// awaitPurge waits until the purge is over that may be under way. One that begins later sees every claim that was there
// when awaitPurge was called.
func (c *claims) awaitPurge(ctx context.Context) error {
	first, err := c.state(ctx)
	if err != nil || !first.Collecting {
		return err
	}
	_, err = c.await(ctx, func(now state) bool { return !now.Collecting || now.revision != first.revision })
	return err
}

// await waits until the state is right. One that doesn't change for long is of a node that died in the middle.
func (c *claims) await(ctx context.Context, right func(state) bool) (state, error) {
	var since time.Time
	for last := (state{}); ; {
		now, err := c.state(ctx)
		if err != nil || right(now) {
			return now, err
		}
		if now.revision != last.revision {
			last, since = now, time.Now()
		}
		if time.Since(since) > c.stale {
			_, _ = c.set(ctx, now, false) // if somebody else was faster, the next look shows it
		}
		if !pause(ctx) {
			return now, errors.Join(ErrAway, context.Cause(ctx))
		}
	}
}
