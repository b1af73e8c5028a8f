package mesh

import (
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/http1"
)

// mux delivers replies to the calls that wait for them. Every pending try holds a slot. Its reply subject
// PREFIX.LABEL.SLOT.NONCE names the service, the slot, and a number that is never used again.
//
// A slot's state is its nonce and a phase in one word, so that one compare-and-swap decides how a try ends:
//
//   - a reply arrives: waiting -> answered
//   - the caller gives up: waiting -> abandoned
//
// The first one succeeds, and the other finds the phase changed. A reply that finds another nonce is late by at least
// one reuse of the slot.
type mux struct {
	prefix string
	slots  []slot
	// free holds the free slots, first in first out. A slot stays free for long before its reuse, so that late and
	// second replies can be told apart.
	free  chan uint32
	nonce atomic.Uint64
	drop  func(label string, reason dropReason)
}

type slot struct {
	state    atomic.Uint64  // nonce<<2 | phase
	reply    chan *nats.Msg // capacity 1: the reply, or nil if the connection was lost
	interims chan *nats.Msg // interim responses, possibly some of an earlier try
	running  atomic.Pointer[runningNotice]
}

// runningNotice is a node's notice that it runs a try.
type runningNotice struct {
	nonce   uint64
	process string // of the node; see Member.process
}

// The phases of a slot.
const (
	phaseIdle uint64 = iota
	phaseWaiting
	phaseAnswered
	phaseAbandoned
	phaseMask = 3
)

// dropReason is why a reply was dropped.
type dropReason string

const (
	dropLate      dropReason = "late"      // the caller had given up
	dropDuplicate dropReason = "duplicate" // the request was answered already
	dropMalformed dropReason = "malformed" // not a valid reply
	dropOversized dropReason = "oversized" // the body is larger than one message may carry
)

func newMux(prefix string, slots int, drop func(string, dropReason)) *mux {
	m := &mux{prefix: prefix, slots: make([]slot, slots), free: make(chan uint32, slots), drop: drop}
	for i := range m.slots {
		m.slots[i].reply, m.slots[i].interims = make(chan *nats.Msg, 1), make(chan *nats.Msg, node.MaxInterim)
		m.free <- uint32(i)
	}
	return m
}

// try is one sending of a request: a slot, and the nonce under which it waits there.
type try struct {
	slot  *slot
	index uint32
	nonce uint64
}

// begin takes a free slot for a new try. It returns false if there is none.
func (m *mux) begin() (try, bool) {
	select {
	case i := <-m.free:
		t := try{slot: &m.slots[i], index: i, nonce: m.nonce.Add(1)}
		t.slot.state.Store(t.nonce<<2 | phaseWaiting)
		return t, true
	default:
		return try{}, false
	}
}

// release frees the slot after its reply was received from the channel.
func (m *mux) release(t try) { m.free <- t.index }

// abandon frees the slot without a reply. If a reply has arrived meanwhile, it is dropped and counted as late.
func (m *mux) abandon(t try, label string) {
	if !t.slot.state.CompareAndSwap(t.nonce<<2|phaseWaiting, t.nonce<<2|phaseAbandoned) {
		if <-t.slot.reply != nil {
			m.drop(label, dropLate)
		}
	}
	m.free <- t.index
}

// abandonWaiting is abandon for a try that won't be answered. It returns false if a reply has arrived; the caller must
// then receive it from the channel.
func (m *mux) abandonWaiting(t try) bool {
	if !t.slot.state.CompareAndSwap(t.nonce<<2|phaseWaiting, t.nonce<<2|phaseAbandoned) {
		return false
	}
	m.free <- t.index
	return true
}

// process returns the node process that runs the try, or "" if none has said so.
func (t try) process() string {
	if r := t.slot.running.Load(); r != nil && r.nonce == t.nonce {
		return r.process
	}
	return ""
}

// subject returns the reply subject of a try.
func (m *mux) subject(t try, label string) string {
	b := make([]byte, 0, 96)
	b = append(append(b, m.prefix...), '.')
	b = append(append(b, label...), '.')
	b = append(strconv.AppendUint(b, uint64(t.index), 36), '.')
	return http1.UnsafeString(strconv.AppendUint(b, t.nonce, 36))
}

// owns reports whether a reply subject belongs to this mux.
func (m *mux) owns(subject string) bool {
	return len(subject) > len(m.prefix) && subject[:len(m.prefix)] == m.prefix && subject[len(m.prefix)] == '.'
}

// deliver is the inbox subscription's callback. It never blocks.
func (m *mux) deliver(msg *nats.Msg) {
	label, index, nonce, ok := m.parse(msg.Subject)
	if !ok || index >= uint64(len(m.slots)) {
		m.drop("unknown", dropMalformed)
		return
	}
	s := &m.slots[index]
	if len(msg.Header) > 0 && msg.Header[headerInterim] != nil {
		s.queueInterim(msg, nonce)
		return
	}
	if s.state.CompareAndSwap(nonce<<2|phaseWaiting, nonce<<2|phaseAnswered) {
		s.reply <- msg
		return
	}
	reason := dropLate
	if s.state.Load() == nonce<<2|phaseAnswered {
		reason = dropDuplicate
	}
	m.drop(label, reason)
}

// queueInterim queues an interim response for the waiting try. It is dropped if it is late or the queue is full.
func (s *slot) queueInterim(msg *nats.Msg, nonce uint64) {
	if s.state.Load() != nonce<<2|phaseWaiting {
		return
	}
	if run := msg.Header.Get(headerRunning); run != "" {
		s.running.Store(&runningNotice{nonce, run})
		return
	}
	select {
	case s.interims <- msg:
	default:
	}
}

// isFor reports whether the message was sent for the try. It may belong to an earlier try of the slot, if it arrived
// just as that ended.
func (m *mux) isFor(t try, msg *nats.Msg) bool {
	_, _, nonce, ok := m.parse(msg.Subject)
	return ok && nonce == t.nonce
}

// parse is the inverse of subject.
func (m *mux) parse(subject string) (label string, index, nonce uint64, ok bool) {
	rest, ok := strings.CutPrefix(subject, m.prefix+".")
	last := strings.LastIndexByte(rest, '.')
	if !ok || last < 1 {
		return "", 0, 0, false
	}
	middle := strings.LastIndexByte(rest[:last], '.')
	if middle < 1 {
		return "", 0, 0, false
	}
	index, err1 := strconv.ParseUint(rest[middle+1:last], 36, 32)
	nonce, err2 := strconv.ParseUint(rest[last+1:], 36, 62)
	return rest[:middle], index, nonce, err1 == nil && err2 == nil
}

// connectionLost ends every waiting try, since the replies are lost with the connection.
func (m *mux) connectionLost() {
	for i := range m.slots {
		s := &m.slots[i]
		state := s.state.Load()
		if state&phaseMask == phaseWaiting && s.state.CompareAndSwap(state, state&^phaseMask|phaseAnswered) {
			s.reply <- nil
		}
	}
}
