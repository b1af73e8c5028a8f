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

// Notes keeps what a node knows about the log of purges across restarts, separately from the log. A note has some
// kilobytes at most.
type Notes interface {
	// Load returns the note that was saved last; nil if there is none.
	Load() ([]byte, error)
	// Save replaces the note, and returns when it is on disk.
	Save(note []byte) error
}

// ledger knows which purges the log must have: the newest of each subject, and a checksum for each day. When the log is
// read after a start, compare checks it against the note from before: if the log has lost purges, purged entries could
// come back. A note may be older than the log, and newer purges may have replaced those it covers. So each purge names
// the positions of the purges that it replaces, in the log and in the notes. It is safe for concurrent use.
type ledger struct {
	mu          sync.Mutex // guards what follows
	incarnation uint64
	sequence    uint64 // of the newest purge
	last        map[uint64]position
	sums        map[int64]uint64 // of the purges in last, by day
	// Positions in the note on disk of the subjects that have another position now; zero if they aren't in the note.
	inNote     map[uint64]position
	inNextNote map[uint64]position // the same for the note that is being saved; nil if none is
	oldNote    *note               // note from before the start, until the log was compared with it
}

// position is where a purge is in the log.
type position struct {
	Sequence uint64 `json:"s"`
	Day      int64  `json:"d"` // days since 1970
}

// note is the part of a ledger that is saved.
type note struct {
	Incarnation uint64           `json:"incarnation"`
	Sequence    uint64           `json:"sequence"`
	Days        map[int64]uint64 `json:"days"`
}

// comparedDays is for how many days purges must still be in the log, whose records expire after purgesKept.
const comparedDays = int64(MaxKeep/day) - 1

const day = 24 * time.Hour

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

func newLedger() *ledger {
	l := &ledger{}
	l.reset(0)
	return l
}

// reset starts with another incarnation of the log. The caller holds mu, or nobody else knows the ledger.
func (l *ledger) reset(incarnation uint64) {
	l.incarnation, l.sequence = incarnation, 0
	l.last, l.sums, l.inNote, l.inNextNote = map[uint64]position{}, map[int64]uint64{}, map[uint64]position{}, nil
}

// loadNote stores the note from before the start. A note that can't be read is ignored.
func (l *ledger) loadNote(b []byte) {
	var n note
	if len(b) == 0 || json.Unmarshal(b, &n) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldNote = &n
}

// setIncarnation stores which incarnation of the log is read. It reports whether another one was followed before, in
// this run or according to the note. A note about another incarnation is dropped: its entries are invalid anyway.
func (l *ledger) setIncarnation(incarnation uint64) (another bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if incarnation != l.incarnation {
		another = l.incarnation != 0
		l.reset(incarnation)
	}
	if l.oldNote != nil && l.oldNote.Incarnation != incarnation {
		another = another || l.oldNote.Incarnation != 0
		l.oldNote = nil
	}
	return another
}

// subjectOf identifies the subject of a purge.
func subjectOf(r *purgeRecord) uint64 {
	h := Hash(r.Reach, r.Text)
	if r.Soft {
		h = ^h
	}
	return h
}

// term returns what a purge adds to the checksum of its day: the finalizer of SplitMix64 over both.
func term(subject, sequence uint64) uint64 {
	h := subject + sequence*0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// add adds a purge of the log.
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
	if l.oldNote != nil { // the log is being read
		if sequence > l.oldNote.Sequence {
			l.inNote[subject] = r.positionIn(l.oldNote.Sequence)
		}
		return
	}
	keepFirst(l.inNote, subject, old)
	keepFirst(l.inNextNote, subject, old)
}

// keepFirst stores the position of a subject, unless one is stored already.
func keepFirst(m map[uint64]position, subject uint64, at position) {
	if _, moved := m[subject]; !moved && m != nil {
		m[subject] = at
	}
}

// positionIn returns where the purge's subject was in a note up to the sequence: the latest of the named positions that
// the note covers.
func (r *purgeRecord) positionIn(sequence uint64) (at position) {
	for _, p := range r.Was {
		if p.Sequence <= sequence && p.Sequence > at.Sequence {
			at = p
		}
	}
	return at
}

// remove removes a subject and returns its position. The caller holds mu.
func (l *ledger) remove(subject uint64) position {
	old, known := l.last[subject]
	if known {
		l.sums[old.Day] ^= term(subject, old.Sequence)
		delete(l.last, subject)
	}
	return old
}

// dropBefore removes the purges before a floor.
func (l *ledger) dropBefore(floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for subject, at := range l.last {
		if at.Sequence < floor {
			l.remove(subject)
		}
	}
}

// setWas stores in a purge that is about to be written where its subject is now, and in the notes.
func (l *ledger) setWas(r *purgeRecord) {
	subject := subjectOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Was = nil
	for _, m := range []map[uint64]position{l.last, l.inNote, l.inNextNote} {
		if at := m[subject]; at.Sequence != 0 && !slices.Contains(r.Was, at) {
			r.Was = append(r.Was, at)
		}
	}
}

// newest returns the highest sequence that the log is known to have had.
func (l *ledger) newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.oldNote != nil {
		return max(l.oldNote.Sequence, l.sequence)
	}
	return l.sequence
}

// errLost means that the log has lost purges that it must have.
var errLost = errors.New("the log of purges has lost some")

// errAnother means that the log isn't the one that was followed before.
var errAnother = errors.New("the log of purges that was followed before isn't there any more: its files are gone, or " +
	"its stream was deleted")

// compare checks whether the log, which was read to its end, has all purges that the old note covers. That can be
// decided only if no other node writes (alone): then each purge names what it replaced.
func (l *ledger) compare(alone bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.oldNote == nil {
		return nil
	}
	differ := maps.Clone(l.oldNote.Days)
	if differ == nil {
		differ = map[int64]uint64{}
	}
	for subject, at := range l.last {
		if noted, moved := l.inNote[subject]; moved {
			at = noted
		}
		if at.Sequence != 0 {
			differ[at.Day] ^= term(subject, at.Sequence)
		}
	}
	oldest := dayOf(time.Now()) - comparedDays
	for d, sum := range differ {
		if alone && sum != 0 && d >= oldest {
			return fmt.Errorf("%w: of those up to %d", errLost, l.oldNote.Sequence)
		}
	}
	l.oldNote = nil
	return nil
}

// beginNote returns a note to save, with its incarnation and sequence. The caller must call endNote afterwards. It
// returns none until the log was compared with the old note, which must stay until then.
func (l *ledger) beginNote() (b []byte, incarnation, sequence uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.oldNote != nil || l.incarnation == 0 {
		return nil, 0, 0, nil
	}
	for d := range l.sums {
		if d < dayOf(time.Now())-comparedDays {
			delete(l.sums, d)
		}
	}
	l.inNextNote = map[uint64]position{}
	b, err = json.Marshal(note{l.incarnation, l.sequence, l.sums})
	return b, l.incarnation, l.sequence, err // plain values can always be encoded
}

// endNote is called when the note of that incarnation was saved, or saving it failed.
func (l *ledger) endNote(incarnation uint64, saved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if saved && l.inNextNote != nil && incarnation == l.incarnation {
		l.inNote = l.inNextNote
	}
	l.inNextNote = nil
}

// currentIncarnation returns the incarnation of the log that the ledger is about.
func (l *ledger) currentIncarnation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.incarnation
}
