package blob

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// holders is how nodes give each other chunks. Each node subscribes to <prefix>blob.get in one queue group, of which
// NATS chooses a near member. While a node asks, it isn't in the group, since NATS would choose itself.
type holders struct {
	mu     sync.Mutex // guards all below
	sub    *nats.Subscription
	asking int // how often this node asks now
	closed bool

	waiting chan *nats.Msg // requests of others; never closed; who comes while it is full is told to ask elsewhere
}

// Limits of what a node does for others at once.
const (
	answerers   = 2
	maxAnswers  = 16 // requests that wait
	holderGroup = "blobs"
)

func (s *Store) holderSubject() string { return s.cfg.Prefix + "blob.get" }

// hold begins to answer other nodes.
func (s *Store) hold() error {
	s.holders.waiting = make(chan *nats.Msg, maxAnswers)
	for range answerers {
		s.spawn(s.answer)
	}
	s.holders.mu.Lock()
	defer s.holders.mu.Unlock()
	return s.subscribeLocked()
}

func (s *Store) subscribeLocked() error {
	if s.holders.sub != nil || s.holders.asking > 0 || s.holders.closed {
		return nil
	}
	sub, err := s.cfg.NATS.QueueSubscribe(s.holderSubject(), holderGroup, func(msg *nats.Msg) {
		select {
		case s.holders.waiting <- msg:
		default:
			_ = msg.Respond(appendAnswer(nil, answerEnd, 0)) // if it is lost, the other one asks elsewhere as well
		}
	})
	if err != nil {
		return fmt.Errorf("answer other nodes: %w", err)
	}
	s.holders.sub = sub
	return nil
}

func (s *Store) unsubscribeLocked() {
	if s.holders.sub != nil {
		_ = s.holders.sub.Unsubscribe() // fails only if the connection is closed
		s.holders.sub = nil
	}
}

// letGo ends the answering.
func (s *Store) letGo() {
	s.holders.mu.Lock()
	defer s.holders.mu.Unlock()
	s.holders.closed = true
	s.unsubscribeLocked()
}

// beginAsking makes that this node's questions reach others. The caller calls the function that it returns.
func (s *Store) beginAsking() (end func()) {
	s.holders.mu.Lock()
	defer s.holders.mu.Unlock()
	s.holders.asking++
	s.unsubscribeLocked()
	return func() {
		s.holders.mu.Lock()
		defer s.holders.mu.Unlock()
		s.holders.asking--
		if err := s.subscribeLocked(); err != nil {
			s.cfg.Log.Warn("this node gives no blobs to others", "error", err)
		}
	}
}

// answer answers the requests of other nodes until the store is closed.
func (s *Store) answer() {
	for {
		select {
		case msg := <-s.holders.waiting:
			s.answerOne(msg)
		case <-s.ctx.Done():
			return
		}
	}
}

// answerOne sends the chunks that another node asks for. At most batchBytes are sent, and one chunk.
func (s *Store) answerOne(msg *nats.Msg) {
	wanted, err := readAsk(msg.Data)
	if err != nil || msg.Reply == "" {
		return
	}
	var file held
	defer func() { file.close() }()
	buf := make([]byte, 0, answerHead+node.BlobChunk)
	sent := 0
	for at, want := range wanted {
		if s.ctx.Err() != nil || sent > batchBytes {
			break
		}
		out := s.appendChunk(appendAnswer(buf[:0], answerChunk, at), &file, want)
		if out == nil {
			out = appendAnswer(buf[:0], answerMissing, at)
		}
		sent += len(out)
		if s.cfg.NATS.Publish(msg.Reply, out) != nil {
			return // the connection is gone, and the other node asks elsewhere
		}
	}
	_ = s.cfg.NATS.Publish(msg.Reply, appendAnswer(buf[:0], answerEnd, 0)) // likewise
}

// held is the file that chunks are read from.
type held struct {
	digest node.Digest
	size   int64
	file   *os.File
}

func (h *held) close() {
	if h.file != nil {
		_ = h.file.Close()
		h.file = nil
	}
}

// appendChunk appends a chunk of a blob on this node's disk; nil if it isn't there. Whether it is right is found by the
// node that asked.
func (s *Store) appendChunk(b []byte, h *held, want asked) []byte {
	if h.file == nil || h.digest != want.digest {
		h.close()
		size, ok := s.table.size(want.digest)
		if !ok {
			return nil
		}
		file, err := os.Open(s.dir.file(want.digest))
		if err != nil {
			return nil
		}
		*h = held{digest: want.digest, size: size, file: file}
	}
	blob := node.Blob{Size: h.size}
	if want.n >= blob.Parts() {
		return nil
	}
	data := b[len(b) : len(b)+int(blob.PartSize(want.n))]
	if _, err := h.file.ReadAt(data, int64(want.n)*node.BlobChunk); err != nil && (err != io.EOF || len(data) > 0) {
		return nil
	}
	return b[:len(b)+len(data)]
}

// fromHolders fetches chunks from another node that has them. It returns those that didn't come.
func (s *Store) fromHolders(ctx context.Context, batch []part, got func(part, []byte) error) (left []part, err error) {
	defer s.beginAsking()()
	came := make([]bool, len(batch))
	err = s.answers(ctx, s.holderSubject(), appendAsk(nil, batch), func(msg *nats.Msg) (bool, error) {
		a, ok := readAnswer(msg.Data)
		switch {
		case !ok || a.kind == answerEnd: // also that nobody is there
			return true, nil
		case a.kind == answerMissing || a.at >= len(batch) || came[a.at]:
			return false, nil
		case !batch[a.at].right(a.data):
			s.wrongChunk(batch[a.at])
			return false, nil
		}
		came[a.at] = true
		s.counts.fetched.Add(int64(len(a.data)))
		s.counts.near.Add(int64(len(a.data)))
		return false, got(batch[a.at], a.data)
	})
	for i, p := range batch {
		if !came[i] {
			left = append(left, p)
		}
	}
	return left, err
}
