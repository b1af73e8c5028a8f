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

// modelLog is a log of purges in which a newer one takes the place of an older one of its subject.
type modelLog struct {
	next    uint64
	records map[uint64]modelRecord // by subject
}

type modelRecord struct {
	purgeRecord
	sequence uint64
	written  time.Time
}

// write adds a random purge, and lets the ledger take it in.
func (m *modelLog) write(r *rand.Rand, l *ledger, now time.Time) {
	rec := purgeRecord{Reach: ReachTag, Text: strconv.Itoa(r.IntN(8)), Soft: r.IntN(3) == 0}
	l.replaces(&rec)
	m.next++
	m.records[subjectOf(&rec)] = modelRecord{rec, m.next, now}
	l.add(&rec, m.next, now)
}

// read gives the ledger of a node that starts with the note.
func (m *modelLog) read(saved []byte) *ledger {
	l := newLedger()
	l.recall(saved)
	l.open(1)
	for _, rec := range slices.SortedFunc(maps.Values(m.records), func(a, b modelRecord) int {
		return int(a.sequence) - int(b.sequence)
	}) {
		l.add(&rec.purgeRecord, rec.sequence, rec.written)
	}
	return l
}

// In thousands of random lives of a node, in which notes are saved, fail, or are under way when it is killed: a log
// that is whole is never said to have lost something, and one that has lost any purge that the note tells of always is.
func TestLedgerModel(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &modelLog{records: map[uint64]modelRecord{}}
		now := time.Now().Add(-time.Duration(r.IntN(20)) * day)
		var saved []byte
		for life := range 6 {
			l := m.read(saved)
			if err := l.compare(true); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			if life > 0 {
				losesAny(t, seed, m, saved)
			}
			saved = live(r, m, l, saved, &now)
		}
	}
}

// live is one life of a node, to its kill. It gives the note that is on disk then.
func live(r *rand.Rand, m *modelLog, l *ledger, saved []byte, now *time.Time) []byte {
	for range r.IntN(6) {
		for range r.IntN(4) {
			m.write(r, l, *now)
		}
		b, incarnation, _, err := l.begin()
		if err != nil || incarnation == 0 {
			panic("no note")
		}
		for range r.IntN(4) { // while it is saved
			m.write(r, l, *now)
		}
		switch r.IntN(4) {
		case 0: // killed before it was on disk
			return saved
		case 1: // killed after
			return b
		case 2:
			l.end(incarnation, false)
		default:
			saved = b
			l.end(incarnation, true)
		}
		*now = now.Add(time.Duration(r.IntN(30)) * time.Hour)
	}
	for range r.IntN(4) {
		m.write(r, l, *now)
	}
	return saved
}

// losesAny takes each record that the note tells of out of the log.
func losesAny(t *testing.T, seed uint64, m *modelLog, saved []byte) {
	t.Helper()
	if saved == nil {
		return
	}
	noted := newLedger()
	noted.recall(saved)
	for subject, rec := range m.records {
		if rec.sequence > noted.before.Sequence {
			continue // newer: its purge wasn't acknowledged to anybody who waited
		}
		delete(m.records, subject)
		if err := m.read(saved).compare(true); !errors.Is(err, errLost) {
			t.Fatalf("seed %d: record %d is lost: %v", seed, rec.sequence, err)
		}
		m.records[subject] = rec
	}
}

// What is older than a month has left the log, and isn't missed.
func TestLedgerForgetsOldDays(t *testing.T) {
	m, l := &modelLog{records: map[uint64]modelRecord{}}, newLedger()
	l.open(1)
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		m.write(r, l, time.Now().Add(-purgesKept-day))
	}
	old := maps.Clone(m.records)
	b, incarnation, _, err := l.begin()
	if err != nil {
		t.Fatal(err)
	}
	l.end(incarnation, true)
	for subject := range old {
		delete(m.records, subject)
	}
	if err := m.read(b).compare(true); err != nil {
		t.Error(err)
	}
}
