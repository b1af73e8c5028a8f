package kvcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// leaseTime is how long a node may return entries after it has last shown that it follows the log, which it does every
// leaseEvery. Others wait for a node that doesn't answer until the lease and leaseMargin are over, which is more than
// two clocks can differ meanwhile.
const (
	leaseTime   = 2 * time.Second
	leaseEvery  = 500 * time.Millisecond
	leaseMargin = 100 * time.Millisecond
	watchStall  = time.Second     // after which a consumer that hasn't delivered what was written is replaced
	writeStall  = 5 * time.Second // how long a write may take on a busy disk
)

// Purge says what to purge.
type Purge struct {
	Reach Reach
	Text  string // the URL, prefix, host or tag
	Soft  bool   // entries become stale instead of invalid
}

// purgeRecord is a record in the log: a purge, a floor or a lease.
type purgeRecord struct {
	Reach Reach  `json:"reach"`
	Text  string `json:"text,omitempty"` // of a lease: the sequence that the node has applied
	Soft  bool   `json:"soft,omitempty"`
	Node  string `json:"node,omitempty"`  // writer of the record; of a lease: its holder
	Name  string `json:"name,omitempty"`  // of that node
	Reply string `json:"reply,omitempty"` // where a node acknowledges that it has applied it
	End   bool   `json:"end,omitempty"`   // of a lease: the node stops
	Run   int64  `json:"run,omitempty"`   // of a lease: identifies the process of the node

	Was []position `json:"was,omitempty"` // positions of its subject before, in the log and in the writer's notes
}

// purgeLog is the log of purges, a small stream that every node follows. The goroutine of run owns its consumer and
// lease.
type purgeLog struct {
	cfg       Config
	bucket    string
	js        jetstream.JetStream
	epochs    *epochs
	ledger    *ledger
	noteSaver *noteSaver // nil if nothing is noted
	log       *slog.Logger

	lease        atomic.Int64 // until when this node may return entries, since base; unused when alone
	base         time.Time
	ready        atomic.Bool // the stream exists and was read to its end
	renewNow     chan struct{}
	lossReported atomic.Bool // operators already know that the next log is another one

	mu         sync.Mutex // guards what follows
	lastNoted  uint64     // the last record in holders; a replaced consumer may still deliver older ones
	holders    map[string]holder
	historyEnd uint64 // up to this sequence records are history, whose writers don't wait
}

// holder is a node whose lease may not be over.
type holder struct {
	name    string
	seenAt  time.Time // when its last record was received, which is after it was written
	applied uint64    // the sequence that it had applied then
	run     int64     // which process it is
}

func newPurgeLog(cfg Config, bucket string) *purgeLog {
	l := &purgeLog{
		cfg: cfg, bucket: bucket, epochs: newEpochs(), ledger: newLedger(), log: cfg.Log, base: time.Now(),
		renewNow: make(chan struct{}, 1), holders: map[string]holder{},
	}
	if cfg.Notes != nil {
		l.noteSaver = newNoteSaver(cfg.Notes)
	}
	return l
}

// processID distinguishes this process of the node from others.
func (l *purgeLog) processID() int64 { return l.base.UnixNano() }

// leased reports whether this node may return entries without asking for news of purges.
func (l *purgeLog) leased() bool {
	if l.cfg.Alone {
		return l.ready.Load()
	}
	return int64(time.Since(l.base)) < l.lease.Load()
}

func (l *purgeLog) subject(r *purgeRecord) string {
	kind := "hard"
	switch {
	case r.Reach == reachLease:
		return "$KV." + l.bucket + ".lease." + r.Node
	case r.Soft:
		kind = "soft"
	}
	return "$KV." + l.bucket + "." + string(r.Reach) + "." + kind + "." + strconv.FormatUint(Hash(r.Reach, r.Text), 16)
}

// writeTry is how long an attempt to write waits for the acknowledgement: the leader that it went to may be gone.
const writeTry = time.Second

// write writes a record and returns its sequence once the stream has stored it. It retries until ctx ends, so that it
// survives a change of leaders. A record that is written twice does no harm.
//
// A sequence that isn't higher than what the log had before shows that the log has lost records: see recreate.
func (l *purgeLog) write(ctx context.Context, r *purgeRecord) (uint64, error) {
	if r.Reach != reachLease && l.cfg.Alone {
		l.ledger.setWas(r)
	}
	known := max(l.epochs.now().Sequence, l.ledger.newest())
	b, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write a purge down: %w", err)
	}
	for l.js != nil && l.cfg.NATS.IsConnected() {
		try, cancel := context.WithTimeout(ctx, writeTry)
		ack, err := l.js.PublishMsg(try, &nats.Msg{Subject: l.subject(r), Data: b}, jetstream.WithRetryAttempts(10),
			jetstream.WithRetryWait(writeTry/10))
		cancel()
		leaderless := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoStreamResponse)
		switch {
		case err == nil && ack.Sequence <= known:
			return 0, l.recreate(ctx, fmt.Errorf("%w: its next is %d, after %d", errLost, ack.Sequence, known))
		case err == nil:
			return ack.Sequence, nil
		case ctx.Err() != nil || !leaderless:
			return 0, errors.Join(ErrAway, err)
		}
	}
	return 0, ErrAway
}

// awaitApplied waits until this node has applied the sequence. It fails with ctx's error.
func (l *purgeLog) awaitApplied(ctx context.Context, sequence uint64) error {
	for {
		done, changed := l.epochs.reached(sequence)
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err() // the callers wrap it
		}
	}
}

// receive applies a record of the log.
func (l *purgeLog) receive(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	var r purgeRecord
	sequence := meta.Sequence.Stream
	if json.Unmarshal(msg.Data(), &r) != nil {
		r = purgeRecord{Reach: ReachAll} // nobody knows what it reached
	}
	l.noteHolder(&r, sequence)
	l.epochs.apply(sequence, r.Reach, r.Text, r.Soft)
	l.updateLedger(&r, sequence, meta.Timestamp)
	if r.Reply != "" && l.isLive(sequence) && strings.HasPrefix(r.Reply, l.cfg.ReplyRoot) {
		_ = l.cfg.NATS.Publish(r.Reply, []byte(l.cfg.Node)) // if it is lost, the writer waits for the end of the lease
	}
}

// loadNote loads the note that the node saved before it stopped.
func (l *purgeLog) loadNote() error {
	if l.cfg.Notes == nil {
		return nil
	}
	b, err := l.cfg.Notes.Load()
	if err != nil {
		return fmt.Errorf("recall the purges: %w", err)
	}
	l.ledger.loadNote(b)
	return nil
}

// updateLedger adds a record to the ledger.
func (l *purgeLog) updateLedger(r *purgeRecord, sequence uint64, written time.Time) {
	if r.Reach == reachLease {
		return
	}
	l.ledger.add(r, sequence, written)
	if floor, ok := parseSequence(r.Text); ok && r.Reach == reachFloor {
		l.ledger.dropBefore(floor)
	}
	if l.noteSaver != nil {
		signal(l.noteSaver.wake)
	}
}

func (l *purgeLog) isLive(sequence uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sequence > l.historyEnd
}

// noteHolder updates the table of lease holders.
func (l *purgeLog) noteHolder(r *purgeRecord, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence <= l.lastNoted {
		return
	}
	l.lastNoted = sequence
	if r.Reach != reachLease || r.Node == l.cfg.Node {
		return
	}
	now := time.Now()
	for node, h := range l.holders {
		if now.Sub(h.seenAt) > 10*leaseTime {
			delete(l.holders, node)
		}
	}
	if r.End && l.holders[r.Node].run == r.Run { // else it is late: the node's next process has a lease
		delete(l.holders, r.Node)
		return
	}
	applied, _ := parseSequence(r.Text) // 0 if there is none
	l.holders[r.Node] = holder{r.Name, now, applied, max(r.Run, l.holders[r.Node].run)}
}

// others returns the nodes whose lease may not be over.
func (l *purgeLog) others() map[string]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]holder{}
	for node, h := range l.holders {
		if time.Since(h.seenAt) < leaseTime+leaseMargin {
			out[node] = h
		}
	}
	return out
}

func parseSequence(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}
