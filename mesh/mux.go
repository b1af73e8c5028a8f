package mesh

import (
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// mux brings replies to the calls that wait for them. Every try holds a slot while it waits; the reply subject
// PREFIX.LABEL.SLOT.NONCE names the service, the slot, and a number that is never used again.
//
// A slot's state is its nonce and a phase in one word, so that one compare-and-swap decides who ends a try: the reply
// that arrives (waiting -> answered) or the caller that gives up (waiting -> abandoned). Whoever wins, wins alone; the
// loser finds the phase changed. A reply that finds another nonce is late by at least one reuse of the slot.
type mux struct {
	prefix string
	slots  []slot
	// slots at rest, first in first out: a slot rests long before reuse, so late and second replies can be told apart
	free  chan uint32
	nonce atomic.Uint64
	drop  func(label string, reason dropReason)
}

type slot struct {
	state    atomic.Uint64  // nonce<<2 | phase
	reply    chan *nats.Msg // holds at most the one message of the winner; nil means the connection was lost
	interims chan *nats.Msg // interim responses, some perhaps of an earlier try
	running  atomic.Pointer[runningNotice]
}

// runner is what a node says of a request that takes long: that it runs there.
type runningNotice struct {
	nonce   uint64
	process string // of the node; see Member.run
}

// The phases of a slot.
const (
	phaseIdle uint64 = iota
	phaseWaiting
	phaseAnswered
	phaseAbandoned
	phaseMask = 3
)

// dropReason says why a reply was thrown away.
type dropReason string

const (
	dropLate      dropReason = "late"      // after the caller gave up
	dropDuplicate dropReason = "duplicate" // the request had its answer
	dropMalformed dropReason = "malformed" // not a valid reply
	dropOversized dropReason = "oversized" // a body larger than one message may carry
)

func newMux(prefix string, slots int, drop func(string, dropReason)) *mux {
	m := &mux{prefix: prefix, slots: make([]slot, slots), free: make(chan uint32, slots), drop: drop}
	for i := range m.slots {
		m.slots[i].reply, m.slots[i].interims = make(chan *nats.Msg, 1), make(chan *nats.Msg, node.MaxInterim)
		m.free <- uint32(i)
	}
	return m
}

// ticket is one try: a slot, and the nonce under which it waits.
type try struct {
	slot  *slot
	index uint32
	nonce uint64
}

// take starts a try; false when every slot is in use.
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

// received gives the slot back after its reply was taken from the channel.
func (m *mux) release(t try) { m.free <- t.index }

// abandon gives the slot back without a reply. A reply that won the race is thrown away and counted.
func (m *mux) abandon(t try, label string) {
	if !t.slot.state.CompareAndSwap(t.nonce<<2|phaseWaiting, t.nonce<<2|phaseAbandoned) {
		if <-t.slot.reply != nil {
			m.drop(label, dropLate)
		}
	}
	m.free <- t.index
}

// giveUp is abandon for a try whose reply won't come. False means that it has: it must be taken from the channel.
func (m *mux) abandonWaiting(t try) bool {
	if !t.slot.state.CompareAndSwap(t.nonce<<2|phaseWaiting, t.nonce<<2|phaseAbandoned) {
		return false
	}
	m.free <- t.index
	return true
}

// runs names the process of the node that runs a try; empty if none has said so.
func (t try) process() string {
	if r := t.slot.running.Load(); r != nil && r.nonce == t.nonce {
		return r.process
	}
	return ""
}

// subject is the reply subject of a try.
func (m *mux) subject(t try, label string) string {
	b := make([]byte, 0, 96)
	b = append(append(b, m.prefix...), '.')
	b = append(append(b, label...), '.')
	b = append(strconv.AppendUint(b, uint64(t.index), 36), '.')
	return unsafeString(strconv.AppendUint(b, t.nonce, 36))
}

// owns reports whether a reply subject is one of this mux.
func (m *mux) owns(subject string) bool {
	return len(subject) > len(m.prefix) && subject[:len(m.prefix)] == m.prefix && subject[len(m.prefix)] == '.'
}

// deliver is the inbox subscription's callback: it never blocks.
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

// interim keeps an interim response for the try that waits; what comes late, or is one too many, is dropped.
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

// mine reports whether a message was sent for the try. One for an earlier try of the slot may have come as that ended.
func (m *mux) isFor(t try, msg *nats.Msg) bool {
	_, _, nonce, ok := m.parse(msg.Subject)
	return ok && nonce == t.nonce
}

// parse reads what subject wrote.
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

// lost ends every waiting try: the connection is away and with it the replies.
func (m *mux) connectionLost() {
	for i := range m.slots {
		s := &m.slots[i]
		state := s.state.Load()
		if state&phaseMask == phaseWaiting && s.state.CompareAndSwap(state, state&^phaseMask|phaseAnswered) {
			s.reply <- nil
		}
	}
}
