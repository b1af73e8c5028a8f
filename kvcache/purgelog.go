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

// How long a node gives out entries after it has last shown that it follows the log, how often it does so, and how long
// others wait for one that doesn't answer: the lease, and more than two clocks can differ over it.
const (
	leaseTime   = 2 * time.Second
	leaseEvery  = 500 * time.Millisecond
	leaseMargin = 100 * time.Millisecond
	watchStall  = time.Second     // after which a watch that hasn't brought what was written is made anew
	writeStall  = 5 * time.Second // that a write may take, on a disk that is busy
)

// Purge is what one purge reaches.
type Purge struct {
	Reach Reach
	Text  string // the URL, prefix, host or tag
	Soft  bool   // entries become stale and aren't gone
}

// purgeRecord is a purge as it stands in the log.
type purgeRecord struct {
	Reach Reach  `json:"reach"`
	Text  string `json:"text,omitempty"` // of a lease: the sequence that the node has applied
	Soft  bool   `json:"soft,omitempty"`
	Node  string `json:"node,omitempty"`  // who wrote it; of a lease: whose it is
	Name  string `json:"name,omitempty"`  // of that node
	Reply string `json:"reply,omitempty"` // where a node tells that it has applied it
	End   bool   `json:"end,omitempty"`   // of a lease: the node stops
	Run   int64  `json:"run,omitempty"`   // of a lease: which process of the node it is

	Was []position `json:"was,omitempty"` // where its subject stood before, in the log and in its writer's notes
}

// purgeLog is the log of purges, a small stream that every node follows. One goroutine (run) owns watch and lease.
type purgeLog struct {
	cfg    Config
	bucket string
	js     jetstream.JetStream
	epochs *epochs
	ledger *ledger
	noted  *noted // nil where nothing is noted
	log    *slog.Logger

	lease atomic.Int64 // until when this node may give out entries, since base; for ever when alone
	base  time.Time
	ready atomic.Bool // the stream is there and was read to its end
	kick  chan struct{}
	told  atomic.Bool // operators know already that the log which comes next is another

	mu      sync.Mutex // guards what follows
	noticed uint64     // the last record that holders knows; a watch that was replaced may still bring older ones
	holders map[string]holder
	live    uint64 // the sequence up to which records are history, whose writers wait for nothing
}

// holder is a node whose lease may not be over.
type holder struct {
	name    string
	heard   time.Time // when its last record was seen here, which is after it was written
	applied uint64    // what it had applied when it wrote that
	run     int64     // which process it is
}

func newPurgeLog(cfg Config, bucket string) *purgeLog {
	l := &purgeLog{
		cfg: cfg, bucket: bucket, epochs: newEpochs(), ledger: newLedger(), log: cfg.Log, base: time.Now(),
		kick: make(chan struct{}, 1), holders: map[string]holder{},
	}
	if cfg.Notes != nil {
		l.noted = newNoted(cfg.Notes)
	}
	return l
}

// process tells this process of the node from others.
func (l *purgeLog) process() int64 { return l.base.UnixNano() }

// leased reports whether this node may give out entries without asking for news of purges.
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

// writeTry is how long a write waits for the stream's word before it is sent again: the leader that it went to may be
// gone.
const writeTry = time.Second

// write adds a record and gives its sequence once the stream has it for good. It tries again while ctx lasts, so that
// it outlives a change of leaders: what is written twice does no harm.
//
// A sequence that is no higher than one that the log had before shows that the log has lost some: see lost.
func (l *purgeLog) write(ctx context.Context, r *purgeRecord) (uint64, error) {
	if r.Reach != reachLease && l.cfg.Alone {
		l.ledger.replaces(r)
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
			return 0, l.lost(ctx, fmt.Errorf("%w: its next is %d, after %d", errLost, ack.Sequence, known))
		case err == nil:
			return ack.Sequence, nil
		case ctx.Err() != nil || !leaderless:
			return 0, errors.Join(ErrAway, err)
		}
	}
	return 0, ErrAway
}

// applied waits until this node has applied the sequence, or ctx ends.
func (l *purgeLog) applied(ctx context.Context, sequence uint64) error {
	for {
		done, changed := l.epochs.wait(sequence)
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the callers say what they waited for
		}
	}
}

// receive applies a record that the watch brought.
func (l *purgeLog) receive(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	var r purgeRecord
	sequence := meta.Sequence.Stream
	if json.Unmarshal(msg.Data(), &r) != nil {
		r = purgeRecord{Reach: ReachAll} // who knows what it reached
	}
	l.note(&r, sequence)
	l.epochs.apply(sequence, r.Reach, r.Text, r.Soft)
	l.enter(&r, sequence, meta.Timestamp)
	if r.Reply != "" && l.isLive(sequence) && strings.HasPrefix(r.Reply, l.cfg.ReplyRoot) {
		_ = l.cfg.NATS.Publish(r.Reply, []byte(l.cfg.Node)) // the lease ends the wait if it is lost
	}
}

// recall takes in what the node has noted before it stopped.
func (l *purgeLog) recall() error {
	if l.cfg.Notes == nil {
		return nil
	}
	b, err := l.cfg.Notes.Load()
	if err != nil {
		return fmt.Errorf("recall the purges: %w", err)
	}
	l.ledger.recall(b)
	return nil
}

// enter keeps the ledger.
func (l *purgeLog) enter(r *purgeRecord, sequence uint64, written time.Time) {
	if r.Reach == reachLease {
		return
	}
	l.ledger.add(r, sequence, written)
	if floor, ok := parseSequence(r.Text); ok && r.Reach == reachFloor {
		l.ledger.raise(floor)
	}
	if l.noted != nil {
		signal(l.noted.wake)
	}
}

func (l *purgeLog) isLive(sequence uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sequence > l.live
}

// note keeps the table of lease holders.
func (l *purgeLog) note(r *purgeRecord, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence <= l.noticed {
		return
	}
	l.noticed = sequence
	if r.Reach != reachLease || r.Node == l.cfg.Node {
		return
	}
	now := time.Now()
	for node, h := range l.holders {
		if now.Sub(h.heard) > 10*leaseTime {
			delete(l.holders, node)
		}
	}
	if r.End && l.holders[r.Node].run == r.Run { // else it is late, and the node's next process holds a lease already
		delete(l.holders, r.Node)
		return
	}
	applied, _ := parseSequence(r.Text) // 0 says nothing
	l.holders[r.Node] = holder{r.Name, now, applied, max(r.Run, l.holders[r.Node].run)}
}

// others lists the nodes whose lease may not be over, with the moment when it surely is.
func (l *purgeLog) others() map[string]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]holder{}
	for node, h := range l.holders {
		if time.Since(h.heard) < leaseTime+leaseMargin {
			out[node] = h
		}
	}
	return out
}

func parseSequence(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}
