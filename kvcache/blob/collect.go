package blob

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/node"
)

// collectEach is how many blobs are purged before publishers may go on that wait.
const collectEach = 100

// Collect removes from the mesh the blobs that keep doesn't want, and returns about how many bytes that were. It spares
// blobs that were put, or asked for by Missing, within grace (at most MaxGrace): whoever publishes has that long to
// make keep want them. So what keep knows must be at most half as old as that, and a publisher must name a blob within
// the other half. One node at a time should call it. The error is ErrAway, or JetStream's.
func (s *Store) Collect(ctx context.Context, keep func(node.Digest) bool, grace time.Duration,
) (bytes int64, err error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	c := collection{s: s, since: time.Now().Add(-min(grace, MaxGrace)), claimed: make(map[uint64]bool)}
	if err := c.run(ctx, keep); err != nil {
		return 0, fmt.Errorf("collect blobs: %w", err)
	}
	return max(c.before-c.after, 0), nil
}

// collection is one call of Collect.
type collection struct {
	s       *Store
	since   time.Time // what is younger stays
	floor   uint64    // the first message in the stream that is younger
	claimed map[uint64]bool
	read    uint64 // claims up to here are in claimed

	before, after int64 // bytes in the stream
}

func (c *collection) run(ctx context.Context, keep func(node.Digest) bool) error {
	if err := c.s.stream.ensure(ctx); err != nil {
		return err
	}
	if err := c.findFloor(ctx); err != nil {
		return err
	}
	parts := make(map[node.Digest]int)
	err := c.s.stream.each(ctx, "*.*", func(digest node.Digest, _ int) { parts[digest]++ })
	if err != nil {
		return err
	}
	var unwanted []node.Digest
	for digest := range parts {
		if !keep(digest) {
			unwanted = append(unwanted, digest)
		}
	}
	for some := range slices.Chunk(unwanted, collectEach) {
		if err := c.phase(ctx, some, parts); err != nil {
			return err
		}
	}
	got, err := c.s.stream.info(ctx, "", 0)
	if err == nil {
		c.after = got.State.Bytes
	}
	return err
}

// findFloor finds the first message of the stream that is younger than grace. The leader is asked, since another
// replica might not have it yet.
func (c *collection) findFloor(ctx context.Context) error {
	got, err := c.s.stream.info(ctx, "", 0)
	if err != nil {
		return err
	}
	c.before, c.floor = got.State.Bytes, got.State.LastSeq+1
	seq, err := c.s.stream.next(ctx, map[string]any{
		"next_by_subj": c.s.cfg.Prefix + "blob.*.*", "start_time": c.since.UTC().Format(time.RFC3339Nano),
	})
	if err == nil && seq > 0 {
		c.floor = min(c.floor, seq)
	}
	return err
}

// next returns the sequence of a message that the leader is asked for, or 0 if there is none.
func (s *stream) next(ctx context.Context, ask map[string]any) (uint64, error) {
	data, err := json.Marshal(ask)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	err = s.call(ctx, "STREAM.MSG.GET."+s.name, data, &answer, &answer.Error)
	if code(err) == jetstream.JSErrCodeMessageNotFound {
		return 0, nil
	}
	return answer.Message.Seq, err
}

// phase purges some blobs. Publishers that begin meanwhile wait until it is done.
func (c *collection) phase(ctx context.Context, some []node.Digest, parts map[node.Digest]int) error {
	was, err := c.s.claims.await(ctx, func(now state) bool { return !now.Collecting })
	if err != nil {
		return err
	}
	began := time.Now()
	mine, err := c.s.claims.set(ctx, was, true)
	if err != nil {
		return err
	}
	limited, cancel := context.WithDeadline(ctx, began.Add(c.s.claims.phase))
	defer cancel()
	err = c.purgeAll(limited, some, parts)
	if _, idle := c.s.claims.set(context.WithoutCancel(limited), mine, false); err == nil {
		err = idle
	}
	return err
}

func (c *collection) purgeAll(ctx context.Context, some []node.Digest, parts map[node.Digest]int) error {
	if err := c.readClaims(ctx); err != nil {
		return err
	}
	for _, digest := range some {
		if c.claimed[prefixOf(digest)] {
			continue
		}
		if err := c.purge(ctx, digest, parts[digest]); err != nil {
			return err
		}
	}
	return nil
}

// readClaims reads the claims that were written since it was called last.
func (c *collection) readClaims(ctx context.Context) error {
	for {
		var answer struct {
			Message struct {
				Seq  uint64    `json:"seq"`
				Data []byte    `json:"data"`
				Time time.Time `json:"time"`
			} `json:"message"`
			Error *jetstream.APIError `json:"error"`
		}
		ask, err := json.Marshal(map[string]any{"seq": c.read + 1, "next_by_subj": c.s.claims.subject("c.*")})
		if err != nil {
			return err
		}
		err = c.s.stream.call(ctx, "STREAM.MSG.GET."+c.s.claims.name, ask, &answer, &answer.Error)
		if code(err) == jetstream.JSErrCodeMessageNotFound {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read claims: %w", err)
		}
		c.read = answer.Message.Seq
		if answer.Message.Time.Before(c.since) {
			continue
		}
		for data := answer.Message.Data; len(data) >= claimPrefix; data = data[claimPrefix:] {
			c.claimed[binary.BigEndian.Uint64(data)] = true
		}
	}
}

// purge removes a blob unless it is young: chunk 0 first, since a blob without it isn't there. If a younger chunk 0
// stays, so does the rest.
func (c *collection) purge(ctx context.Context, digest node.Digest, parts int) error {
	if err := c.s.stream.purge(ctx, c.s.stream.subject(digest, 0), c.floor); err != nil || parts == 1 {
		return err
	}
	young := false
	err := c.s.stream.each(ctx, digest.String()+".0", func(node.Digest, int) { young = true })
	if err != nil || young {
		return err
	}
	return c.s.stream.purge(ctx, c.s.cfg.Prefix+"blob."+digest.String()+".*", c.floor)
}

// purge removes the messages of a subject before a sequence.
func (s *stream) purge(ctx context.Context, subject string, before uint64) error {
	if before <= 1 {
		return nil // JetStream takes 0 for everything
	}
	ask, err := json.Marshal(map[string]any{"filter": subject, "seq": before})
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	return s.call(ctx, "STREAM.PURGE."+s.name, ask, &answer, &answer.Error)
}
