package limit

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// pendingWrite is a write of one record that is waiting or running.
type pendingWrite struct {
	ctx  context.Context //nolint:containedctx // of who waits for it
	msg  *nats.Msg
	done chan struct{} // closed when rev and err are set
	rev  uint64
	err  error
}

// batcher sends all waiting writes as one atomic batch (NATS ADR-50), so that they share one disk sync. Otherwise a
// stream without replicas syncs for each message.
type batcher struct {
	s     *streamStore
	queue chan *pendingWrite // never closed; when it is full, the write fails
}

const (
	commitTime = 500 * time.Millisecond // how long the reply to a batch may take; its writes may be retried afterwards

	maxBatch        = 512
	maxQueuedWrites = 8192
	maxSingleWrites = 64 // concurrent single writes after a refused batch
)

func newBatcher(s *streamStore) *batcher {
	return &batcher{s: s, queue: make(chan *pendingWrite, maxQueuedWrites)}
}

// put queues a write and waits until it is done. It sets the write's revision.
func (g *batcher) put(ctx context.Context, w *pendingWrite) error {
	select {
	case g.queue <- w:
	default:
		return failure{errNoResponder, errTooManyWrites}
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return notTaken(ctx.Err())
	}
}

// errTooManyWrites means that the queue of writes is full.
var errTooManyWrites = errors.New("as many writes of records wait as may")

// run sends writes until ctx ends.
func (g *batcher) run(ctx context.Context) {
	for {
		select {
		case w := <-g.queue:
			g.write(g.collect(w))
		case <-ctx.Done():
			return
		}
	}
}

// collect returns first and all other waiting writes, up to maxBatch. Two writes of one key make a batch fail; then
// each write is sent on its own.
func (g *batcher) collect(first *pendingWrite) []*pendingWrite {
	batch := []*pendingWrite{first}
	for len(batch) < maxBatch {
		select {
		case w := <-g.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

func (g *batcher) write(batch []*pendingWrite) {
	defer func() {
		for _, w := range batch {
			close(w.done)
		}
	}()
	if len(batch) == 1 {
		g.s.publish(batch[0])
		return
	}
	last, err := g.commit(batch)
	switch {
	case err == nil:
		for i, w := range batch {
			w.rev = last - uint64(len(batch)-1-i) //nolint:gosec // G115: a small number
		}
	case errors.Is(err, errBatch):
		g.writeEach(batch)
	default:
		for _, w := range batch {
			w.err = err
		}
	}
}

// writeEach sends each write on its own, after one of them has made the batch fail.
func (g *batcher) writeEach(batch []*pendingWrite) {
	var running sync.WaitGroup
	sem := make(chan struct{}, maxSingleWrites)
	for _, w := range batch {
		sem <- struct{}{}
		running.Go(func() {
			defer func() { <-sem }()
			g.s.publish(w)
		})
	}
	running.Wait()
}

// errBatch means that nothing of a batch was written.
var errBatch = errors.New("the batch was refused")

// commit sends a batch and returns the sequence of its last message.
func (g *batcher) commit(batch []*pendingWrite) (uint64, error) {
	nc, id := g.s.cfg.NATS, nuid.Next()
	for i, w := range batch {
		w.msg.Header["Nats-Batch-Id"] = []string{id}
		w.msg.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i == len(batch)-1 {
			break
		}
		if err := nc.PublishMsg(w.msg); err != nil {
			return 0, err
		}
	}
	last := batch[len(batch)-1]
	last.msg.Header["Nats-Batch-Commit"] = []string{"1"}
	ctx, cancel := context.WithTimeout(context.Background(), commitTime)
	defer cancel()
	reply, err := nc.RequestMsgWithContext(ctx, last.msg)
	for _, w := range batch {
		for _, name := range []string{"Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"} {
			w.msg.Header.Del(name)
		}
	}
	if err != nil {
		return 0, notTaken(err)
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Seq   uint64              `json:"seq"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, failure{errRefused, err}
	}
	if ack.Error != nil {
		return 0, failure{errBatch, ack.Error}
	}
	return ack.Seq, nil
}
