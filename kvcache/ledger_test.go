package kvcache

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// logModel is a log of purges in which a newer purge replaces an older one of its subject.
type logModel struct {
	next    uint64
	records map[uint64]modelRecord // by subject
}

type modelRecord struct {
	purgeRecord
	sequence uint64
	written  time.Time
}

// write adds a random purge, also to the ledger.
func (m *logModel) write(r *rand.Rand, l *ledger, now time.Time) {
	rec := purgeRecord{Reach: ReachTag, Text: strconv.Itoa(r.IntN(8)), Soft: r.IntN(3) == 0}
	l.setWas(&rec)
	m.next++
	m.records[subjectOf(&rec)] = modelRecord{rec, m.next, now}
	l.add(&rec, m.next, now)
}

// read returns the ledger of a node that starts with the note.
func (m *logModel) read(saved []byte) *ledger {
	l := newLedger()
	l.loadNote(saved)
	l.setIncarnation(1)
	for _, rec := range slices.SortedFunc(maps.Values(m.records), func(a, b modelRecord) int {
		return int(a.sequence) - int(b.sequence)
	}) {
		l.add(&rec.purgeRecord, rec.sequence, rec.written)
	}
	return l
}

// In thousands of random lives of a node, in which notes are saved, fail, or are being saved when it is killed, a
// complete log is never reported as damaged, and one that has lost a purge covered by the note always is.
func TestLedgerModel(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &logModel{records: map[uint64]modelRecord{}}
		now := time.Now().Add(-time.Duration(r.IntN(20)) * day)
		var saved []byte
		for life := range 6 {
			l := m.read(saved)
			if err := l.compare(true); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			if life > 0 {
				checkEachLoss(t, seed, m, saved)
			}
			saved = runUntilKilled(r, m, l, saved, &now)
		}
	}
}

// runUntilKilled runs one life of a node until it is killed, and returns the note on disk.
func runUntilKilled(r *rand.Rand, m *logModel, l *ledger, saved []byte, now *time.Time) []byte {
	for range r.IntN(6) {
		for range r.IntN(4) {
			m.write(r, l, *now)
		}
		b, incarnation, _, err := l.beginNote()
		if err != nil || incarnation == 0 {
			panic("no note")
		}
		for range r.IntN(4) { // while the note is saved
			m.write(r, l, *now)
		}
		switch r.IntN(4) {
		case 0: // killed before it is on disk
			return saved
		case 1: // killed after it is on disk
			return b
		case 2:
			l.endNote(incarnation, false)
		default:
			saved = b
			l.endNote(incarnation, true)
		}
		*now = now.Add(time.Duration(r.IntN(30)) * time.Hour)
	}
	for range r.IntN(4) {
		m.write(r, l, *now)
	}
	return saved
}

// checkEachLoss removes each record that the note covers from the log in turn.
func checkEachLoss(t *testing.T, seed uint64, m *logModel, saved []byte) {
	t.Helper()
	if saved == nil {
		return
	}
	noted := newLedger()
	noted.loadNote(saved)
	for subject, rec := range m.records {
		if rec.sequence > noted.oldNote.Sequence {
			continue // newer than the note: its purge wasn't acknowledged to anybody who waited
		}
		delete(m.records, subject)
		if err := m.read(saved).compare(true); !errors.Is(err, errLost) {
			t.Fatalf("seed %d: record %d is lost: %v", seed, rec.sequence, err)
		}
		m.records[subject] = rec
	}
}

// Purges older than a month have left the log and aren't missed.
func TestLedgerForgetsOldDays(t *testing.T) {
	m, l := &logModel{records: map[uint64]modelRecord{}}, newLedger()
	l.setIncarnation(1)
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		m.write(r, l, time.Now().Add(-purgesKept-day))
	}
	old := maps.Clone(m.records)
	b, incarnation, _, err := l.beginNote()
	if err != nil {
		t.Fatal(err)
	}
	l.endNote(incarnation, true)
	for subject := range old {
		delete(m.records, subject)
	}
	if err := m.read(b).compare(true); err != nil {
		t.Error(err)
	}
}
