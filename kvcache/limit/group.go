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

// write is one record on its way to the store.
type write struct {
	ctx  context.Context //nolint:containedctx // of who waits for it
	msg  *nats.Msg
	done chan struct{} // closed when rev and err are set
	rev  uint64
	err  error
}

// group writes what waits as one atomic batch (NATS ADR-50), so that one sync of the disk serves all of it: a stream
// without replicas syncs for each message otherwise.
type group struct {
	s     *streamStore
	queue chan *write // closed by nobody; a write that finds it full fails
}

const (
	commitTime = 500 * time.Millisecond // that the answer to a batch is waited for; its writes may be tried again then

	maxBatch  = 512
	maxWaits  = 8192
	maxSingle = 64 // writes on their own at once, after a batch that was refused
)

func newGroup(s *streamStore) *group { return &group{s: s, queue: make(chan *write, maxWaits)} }

// put writes, and sets the write's revision.
func (g *group) put(ctx context.Context, w *write) error {
	select {
	case g.queue <- w:
	default:
		return failure{errNobody, errWaits}
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return notTaken(ctx.Err())
	}
}

// errWaits means that as many writes wait as may.
var errWaits = errors.New("as many writes of records wait as may")

// run writes until ctx ends.
func (g *group) run(ctx context.Context) {
	for {
		select {
		case w := <-g.queue:
			g.write(g.gather(w))
		case <-ctx.Done():
			return
		}
	}
}

// gather takes what else waits by now. Two writes of one key in a batch make it fail, and are then tried one by one.
func (g *group) gather(first *write) []*write {
	batch := []*write{first}
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

func (g *group) write(batch []*write) {
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
		g.singly(batch)
	default:
		for _, w := range batch {
			w.err = err
		}
	}
}

// singly writes each on its own, after one of them has made the whole batch fail.
func (g *group) singly(batch []*write) {
	var running sync.WaitGroup
	places := make(chan struct{}, maxSingle)
	for _, w := range batch {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			g.s.publish(w)
		})
	}
	running.Wait()
}

// errBatch means that nothing of a batch was written.
var errBatch = errors.New("the batch was refused")

// commit sends a batch and gives the sequence of its last message.
func (g *group) commit(batch []*write) (uint64, error) {
	nc, id := g.s.cfg.NATS, nuid.Next()
	for i, w := range batch {
		w.msg.Header["Nats-Batch-Id"] = []string{id}
		w.msg.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i == len(batch)-1 {
			break
		}
		if err := nc.PublishMsg(w.msg); err != nil {
			return 0, err //nolint:wrapcheck // it is told as it is
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
