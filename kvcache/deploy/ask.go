package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// The nodes of a mesh ask each other how far they are. A question goes to all nodes. Each answers at once, again while
// it makes progress, and when what was asked for has come true, until the question ends.
const (
	maxQuestions = 64                     // that wait at a node at once; further ones are answered only once
	maxWait      = time.Minute            // of a question
	againEvery   = time.Second            // from a question to its repetition
	answerEvery  = 400 * time.Millisecond // from one answer to the next while there is progress
)

// question asks whether a deploy is here, or, with a revision, whether what became live in that or a later one is
// served.
type question struct {
	Version  int         `json:"v"`
	Site     string      `json:"site"`
	ID       node.Digest `json:"id"`
	Revision uint64      `json:"revision,omitempty"`
	// Incarnation is that of the bucket in which the revision is.
	Incarnation int64 `json:"incarnation,omitempty"`
	WaitMS      int64 `json:"wait_ms"`
}

// Answer says how far a node is with a deploy.
type Answer struct {
	Version  int         `json:"v"`
	NodeID   string      `json:"node_id"`
	Node     string      `json:"node"` // its name
	State    NodeState   `json:"state"`
	Live     node.Digest `json:"live"`     // what it serves; zero for nothing
	Revision uint64      `json:"revision"` // in which that became live
	Bytes    int64       `json:"bytes"`    // that it has of the deploy
	Total    int64       `json:"total"`    // that it needs
	Error    string      `json:"error,omitempty"`
	Since    time.Time   `json:"since,omitzero"` // when it began to be in this state
}

// NodeState says how far a node is.
type NodeState string

// The states of a node.
const (
	NodeReady    NodeState = "ready"    // what was asked for is true
	NodeBringing NodeState = "bringing" // it brings the files
	NodeFailed   NodeState = "failed"   // it couldn't, and tries again
	// NodePreparing is the state of a node that has the files but must make the index again to serve them.
	NodePreparing NodeState = "preparing"
	NodeUnaware   NodeState = "unaware" // it hasn't heard of the deploy yet
	NodeWithout   NodeState = "without" // it serves no sites
	NodeSilent    NodeState = "silent"  // it doesn't answer
)

// waiting is a question that isn't answered for good yet.
type waiting struct {
	question question
	reply    string
	ends     time.Time
	last     time.Time // of the last answer
}

type questions struct {
	sub      *nats.Subscription
	messages chan *nats.Msg
}

func (s *Store) askSubject() string { return s.cfg.Prefix + "site.ask" }

// subscribe subscribes to the questions of other nodes.
func (s *Store) subscribe() (questions, error) {
	q := questions{messages: make(chan *nats.Msg, maxQuestions)} // NATS drops when it is full; questions are repeated
	var err error
	q.sub, err = s.cfg.NATS.ChanSubscribe(s.askSubject(), q.messages)
	return q, err
}

// question answers a question, and keeps it if the answer isn't final.
func (f *follower) question(m *nats.Msg) {
	var q question
	if json.Unmarshal(m.Data, &q) != nil || q.Version != recordVersion || m.Reply == "" {
		return
	}
	now := time.Now()
	w := &waiting{
		question: q, reply: m.Reply, last: now,
		ends: now.Add(min(time.Duration(q.WaitMS)*time.Millisecond, maxWait)),
	}
	if f.answer(w) || !now.Before(w.ends) {
		return
	}
	again := func(other *waiting) bool { return other.reply == w.reply }
	if len(f.waiting) < maxQuestions && !slices.ContainsFunc(f.waiting, again) {
		f.waiting = append(f.waiting, w)
	}
}

// answerWaiting answers the questions whose answer has become final, and those that wait for progress.
func (f *follower) answerWaiting() {
	now := time.Now()
	kept := f.waiting[:0]
	for _, w := range f.waiting {
		if !now.Before(w.ends) {
			continue
		}
		if a := f.about(&w.question); a.State == NodeReady {
			f.send(w, &a)
			continue
		} else if now.Sub(w.last) >= answerEvery {
			w.last = now
			f.send(w, &a)
		}
		kept = append(kept, w)
	}
	clear(f.waiting[len(kept):])
	f.waiting = kept
}

// answer answers a question. final reports whether the answer can't change any more.
func (f *follower) answer(w *waiting) (final bool) {
	a := f.about(&w.question)
	f.send(w, &a)
	return a.State == NodeReady || a.State == NodeWithout
}

func (f *follower) send(w *waiting, a *Answer) {
	_ = f.store.cfg.NATS.Publish(w.reply, encode(a)) // fails only without a connection: it is asked again
}

// about returns the answer to a question as it is now.
func (f *follower) about(q *question) Answer {
	a := Answer{Version: recordVersion, NodeID: f.store.cfg.Node, Node: f.store.cfg.Name, State: NodeUnaware}
	if !f.store.following.Load() {
		a.State = NodeWithout
		return a
	}
	t := f.tables[q.Site]
	if t == nil {
		return a
	}
	serves := t.site.State()
	a.Revision, a.Since = serves.Revision, serves.Since
	if serves.Live != nil {
		a.Live = serves.Live.ID
	}
	e := t.deploys[q.ID]
	if e != nil {
		a.State, a.Since = e.nodeState(), e.since
		a.Bytes, a.Total = e.progress.done.Load(), e.progress.total.Load()
		if e.failed != nil {
			a.Error = e.failed.Error()
		}
	}
	switch {
	case q.Revision == 0:
	case serves.since(q):
		a.State = NodeReady
	case a.State == NodeReady && !e.full():
		a.State = NodePreparing
	case a.State == NodeReady: // it is here, but isn't live yet
		a.State = NodeUnaware
	}
	return a
}

// since reports whether the state is that of the question's revision or a later one. Revisions of another bucket say
// nothing.
func (s *State) since(q *question) bool {
	if q.Incarnation != s.incarnation {
		return s.Live != nil && s.Live.ID == q.ID
	}
	return s.Revision >= q.Revision
}

// nodeState translates the stage of a deploy.
func (e *entry) nodeState() NodeState {
	switch e.stage {
	case stageReady:
		return NodeReady
	case stageFailed:
		return NodeFailed
	case stageBringing, stageWaiting:
	}
	return NodeBringing
}

// ask asks all nodes a question until each of the peers that are alive has a final answer, or the time is over. It
// calls each for every answer, and returns the last answer of every peer; those of peers that didn't answer are
// NodeSilent.
func (s *Store) ask(ctx context.Context, q question, wait time.Duration, each func(*Answer)) ([]Answer, error) {
	i, err := s.inquire(q, wait)
	if err != nil {
		return nil, err
	}
	defer i.close()
	return i.await(ctx, wait, each), nil
}

// inquiry is a question to all nodes that is being answered. Its methods aren't safe for concurrent use.
type inquiry struct {
	store    *Store
	question []byte
	inbox    string
	sub      *nats.Subscription
	messages chan *nats.Msg
	poll     *poll
}

// peers returns the nodes of the mesh; this one too if the mesh doesn't know it yet.
func (s *Store) peers() []Peer {
	out := s.cfg.Peers()
	if slices.ContainsFunc(out, func(p Peer) bool { return p.ID == s.cfg.Node }) {
		return out
	}
	return append(slices.Clip(out), Peer{ID: s.cfg.Node, Name: s.cfg.Name, Alive: true})
}

// inquire asks all nodes. They answer as long as valid, even if the answer comes before the caller awaits it. The
// caller calls close.
func (s *Store) inquire(q question, valid time.Duration) (*inquiry, error) {
	q.Version, q.WaitMS = recordVersion, valid.Milliseconds()
	i := &inquiry{
		store: s, question: encode(q), inbox: s.cfg.NATS.NewRespInbox(),
		messages: make(chan *nats.Msg, 4*maxQuestions), // NATS drops when it is full; nodes answer again
		poll:     newPoll(s.peers(), q.Revision != 0),
	}
	var err error
	if i.sub, err = s.cfg.NATS.ChanSubscribe(i.inbox, i.messages); err != nil {
		return nil, fmt.Errorf("ask the nodes: %w", err)
	}
	if err := i.send(); err != nil {
		i.close()
		return nil, fmt.Errorf("ask the nodes: %w", err)
	}
	return i, nil
}

func (i *inquiry) send() error {
	return i.store.cfg.NATS.PublishRequest(i.store.askSubject(), i.inbox, i.question)
}

func (i *inquiry) close() { _ = i.sub.Unsubscribe() } // fails only on a closed connection

// await collects answers as ask does.
func (i *inquiry) await(ctx context.Context, wait time.Duration, each func(*Answer)) []Answer {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	again := time.NewTicker(againEvery)
	defer again.Stop()
	for !i.poll.over() {
		select {
		case m := <-i.messages:
			if a := i.poll.note(m.Data); a != nil && each != nil {
				each(a)
			}
		case <-again.C: // also to those that have answered: they may have too many questions to keep this one
			_ = i.send() // the next time may succeed
			i.poll.peers = i.store.peers()
		case <-ctx.Done():
			return i.poll.answers()
		}
	}
	return i.poll.answers()
}

// poll collects the answers to one question.
type poll struct {
	peers  []Peer
	served bool              // it is about what is served
	last   map[string]Answer // by id of the node
}

func newPoll(peers []Peer, served bool) *poll {
	return &poll{peers: peers, served: served, last: map[string]Answer{}}
}

// final reports whether an answer is not worth waiting for a better one. A node that still lacks files of what has
// become live is behind, and that is what is to be known.
func (p *poll) final(s NodeState) bool {
	switch s {
	case NodeReady, NodeWithout:
		return true
	case NodeBringing, NodeFailed:
		return p.served
	case NodeUnaware, NodePreparing, NodeSilent:
	}
	return false
}

// note notes an answer, and returns it if it says something new.
func (p *poll) note(data []byte) *Answer {
	var a Answer
	if json.Unmarshal(data, &a) != nil || a.Version != recordVersion {
		return nil
	}
	before, heard := p.last[a.NodeID]
	if heard && before == a {
		return nil
	}
	p.last[a.NodeID] = a
	return &a
}

// over reports whether every peer that is alive has given its final answer.
func (p *poll) over() bool {
	for _, peer := range p.peers {
		if peer.Alive && !p.final(p.last[peer.ID].State) {
			return false
		}
	}
	return true
}

// answers returns the last answer of each peer, and of nodes beside them.
func (p *poll) answers() []Answer {
	var out []Answer
	for _, peer := range p.peers {
		a, ok := p.last[peer.ID]
		delete(p.last, peer.ID)
		if !ok {
			a = Answer{NodeID: peer.ID, Node: peer.Name, State: NodeSilent}
		}
		if a.State != NodeWithout {
			out = append(out, a)
		}
	}
	for _, a := range p.last {
		if a.State != NodeWithout {
			out = append(out, a)
		}
	}
	return out
}
