package kvcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Notes keep what a node knows of the log of purges across restarts, in another place than the log. A note is some
// kilobytes at most.
type Notes interface {
	// Load gives the note that was saved last; nil if there is none.
	Load() ([]byte, error)
	// Save replaces the note, and returns when it is on disk.
	Save(note []byte) error
}

// ledger knows which purges must stand in the log: for each subject the newest, and a sum of them for each day. What a
// node had noted of it before it stopped is compared with what the log has when it is read again: a log that has lost
// something would let come back what was purged. A note may be older than the log, and what it tells of replaced by
// newer purges since; so each purge names what it replaces in the notes that there may be. It is safe for concurrent
// use.
type ledger struct {
	mu          sync.Mutex // guards what follows
	incarnation uint64
	sequence    uint64 // of the newest purge
	last        map[uint64]position
	sums        map[int64]uint64 // of last, by day
	// where subjects stand in the note on disk, of those that stand elsewhere now; the zero position is nowhere
	noted  map[uint64]position
	noting map[uint64]position // the same for the note that is being saved; nil if none is
	before *note               // from before the start, until the log was compared with it
}

// position is where a purge stands in the log.
type position struct {
	Sequence uint64 `json:"s"`
	Day      int64  `json:"d"` // since 1970
}

// note is what is kept of a ledger.
type note struct {
	Incarnation uint64           `json:"incarnation"`
	Sequence    uint64           `json:"sequence"`
	Days        map[int64]uint64 `json:"days"`
}

// comparedDays are those whose purges must still be in the log, whose records leave after purgesKept.
const comparedDays = int64(MaxKeep/day) - 1

const day = 24 * time.Hour

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

func newLedger() *ledger {
	l := &ledger{}
	l.forget(0)
	return l
}

// forget begins with another incarnation of the log. The caller holds mu, or nobody else knows the ledger.
func (l *ledger) forget(incarnation uint64) {
	l.incarnation, l.sequence = incarnation, 0
	l.last, l.sums, l.noted, l.noting = map[uint64]position{}, map[int64]uint64{}, map[uint64]position{}, nil
}

// recall takes in a note from before the start. One that can't be read is none.
func (l *ledger) recall(b []byte) {
	var n note
	if len(b) == 0 || json.Unmarshal(b, &n) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = &n
}

// open is told which incarnation of the log is read, and reports whether another was followed before, in this run or in
// the one that the note is from. What was noted of that counts for nothing: its entries are as good as gone.
func (l *ledger) open(incarnation uint64) (another bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if incarnation != l.incarnation {
		another = l.incarnation != 0
		l.forget(incarnation)
	}
	if l.before != nil && l.before.Incarnation != incarnation {
		another = another || l.before.Incarnation != 0
		l.before = nil
	}
	return another
}

// subjectOf names the subject of a purge.
func subjectOf(r *purgeRecord) uint64 {
	h := Hash(r.Reach, r.Text)
	if r.Soft {
		h = ^h
	}
	return h
}

// term is what a purge adds to the sum of its day: the finish of SplitMix64 over both.
func term(subject, sequence uint64) uint64 {
	h := subject + sequence*0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// add takes in a purge of the log.
func (l *ledger) add(r *purgeRecord, sequence uint64, written time.Time) {
	subject, at := subjectOf(r), position{sequence, dayOf(written)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence <= l.sequence {
		return
	}
	l.sequence = sequence
	old := l.remove(subject)
	l.last[subject] = at
	l.sums[at.Day] ^= term(subject, sequence)
	if l.before != nil { // the log is being read
		if sequence > l.before.Sequence {
			l.noted[subject] = r.stoodAt(l.before.Sequence)
		}
		return
	}
	keep(l.noted, subject, old)
	keep(l.noting, subject, old)
}

// keep notes where a subject stood, unless it was moved before.
func keep(m map[uint64]position, subject uint64, at position) {
	if _, moved := m[subject]; !moved && m != nil {
		m[subject] = at
	}
}

// stoodAt is where the subject of the purge stood in a note up to the sequence: at the last of the positions that it
// names.
func (r *purgeRecord) stoodAt(sequence uint64) (at position) {
	for _, p := range r.Was {
		if p.Sequence <= sequence && p.Sequence > at.Sequence {
			at = p
		}
	}
	return at
}

// remove takes a purge out, and tells where it stood. The caller holds mu.
func (l *ledger) remove(subject uint64) position {
	old, known := l.last[subject]
	if known {
		l.sums[old.Day] ^= term(subject, old.Sequence)
		delete(l.last, subject)
	}
	return old
}

// raise takes out what stands before a floor.
func (l *ledger) raise(floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for subject, at := range l.last {
		if at.Sequence < floor {
			l.remove(subject)
		}
	}
}

// replaces is told a purge that is about to be written. It says in it where its subject stands: now, and in the notes.
func (l *ledger) replaces(r *purgeRecord) {
	subject := subjectOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Was = nil
	for _, m := range []map[uint64]position{l.last, l.noted, l.noting} {
		if at := m[subject]; at.Sequence != 0 && !slices.Contains(r.Was, at) {
			r.Was = append(r.Was, at)
		}
	}
}

// newest is the highest sequence that the log is known to have had.
func (l *ledger) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil {
		return max(l.before.Sequence, l.sequence)
	}
	return l.sequence
}

// errLost means that the log of purges doesn't have what it must have.
var errLost = errors.New("the log of purges has lost some")

// errAnother means that the log of purges isn't the one that was followed before.
var errAnother = errors.New("the log of purges that was followed before isn't there any more: its files are gone, or " +
	"its stream was deleted")

// compare looks whether the log, which was read to its end, has all that the note from before the start tells of. Only
// where nobody else writes can that be said: then what was replaced since is known by what has replaced it.
func (l *ledger) compare(alone bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before == nil {
		return nil
	}
	differ := maps.Clone(l.before.Days)
	if differ == nil {
		differ = map[int64]uint64{}
	}
	for subject, at := range l.last {
		if then, moved := l.noted[subject]; moved {
			at = then
		}
		if at.Sequence != 0 {
			differ[at.Day] ^= term(subject, at.Sequence)
		}
	}
	oldest := dayOf(time.Now()) - comparedDays
	for d, sum := range differ {
		if alone && sum != 0 && d >= oldest {
			return fmt.Errorf("%w: of those up to %d", errLost, l.before.Sequence)
		}
	}
	l.before = nil
	return nil
}

// begin gives a note to be kept, and which incarnation and sequence it tells of. end must follow. It gives none before
// the log was compared with the note from before the start, which stays until then.
func (l *ledger) begin() (b []byte, incarnation, sequence uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil || l.incarnation == 0 {
		return nil, 0, 0, nil
	}
	for d := range l.sums {
		if d < dayOf(time.Now())-comparedDays {
			delete(l.sums, d)
		}
	}
	l.noting = map[uint64]position{}
	b, err = json.Marshal(note{l.incarnation, l.sequence, l.sums})
	return b, l.incarnation, l.sequence, err //nolint:wrapcheck // plain values always marshal
}

// end is told whether the note of that incarnation is on disk.
func (l *ledger) end(incarnation uint64, saved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if saved && l.noting != nil && incarnation == l.incarnation {
		l.noted = l.noting
	}
	l.noting = nil
}

// of is the incarnation of the log that the ledger is of.
func (l *ledger) of() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.incarnation
}
