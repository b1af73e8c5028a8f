package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// The layout of SQLite's write-ahead log (https://sqlite.org/fileformat2.html#the_write_ahead_log).
const (
	walHeader   = 32
	walFrame    = 24
	walMagic    = 0x377f0682 // with the lowest bit set, checksums use big-endian words
	walMaxPage  = 65536
	walMaxBytes = 256 << 20 // longer ones aren't checked: checkpoints keep it at a few MiB
)

// walLost reports whether a write-ahead log has lost acknowledged commits. SQLite reads it up to the first invalid
// frame and ignores what follows. That is right for the end of a log, which a crash may leave half-written. But every
// frame before the last commit was synced.
func walLost(log []byte) bool {
	if len(log) == 0 || allZero(log) { // the file has a size but no content yet
		return false
	}
	if len(log) < walHeader {
		return true
	}
	magic := binary.BigEndian.Uint32(log)
	page := int(binary.BigEndian.Uint32(log[8:]))
	if magic&^1 != walMagic || page < 512 || page > walMaxPage || page&(page-1) != 0 {
		return true
	}
	var order binary.ByteOrder = binary.LittleEndian
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	sum := walSum{order: order}
	sum.add(log[:24])
	if !sum.is(log[24:]) {
		return true
	}
	return walFramesLost(log, page, sum)
}

// walFramesLost looks for commits after an invalid frame. One may belong to the transaction that a crash has
// interrupted; there can't be more.
func walFramesLost(log []byte, page int, sum walSum) bool {
	salt, broken, commits := [8]byte(log[16:24]), false, 0
	for at := walHeader; at+walFrame+page <= len(log); at += walFrame + page {
		frame := log[at : at+walFrame+page]
		ours := [8]byte(frame[8:16]) == salt // otherwise it is from an older log in the same file
		if !broken {
			sum.add(frame[:8])
			sum.add(frame[walFrame:])
			broken = !ours || !sum.is(frame[16:])
		}
		if broken && ours && binary.BigEndian.Uint32(frame[4:]) != 0 {
			commits++
		}
	}
	return commits > 1
}

// walSum is the log's running checksum.
type walSum struct {
	order  binary.ByteOrder
	s1, s2 uint32
}

// add adds bytes, a multiple of eight.
func (s *walSum) add(b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		s.s1 += s.order.Uint32(b[i:]) + s.s2
		s.s2 += s.order.Uint32(b[i+4:]) + s.s1
	}
}

// is compares the sum with a stored one, which is always big-endian.
func (s *walSum) is(b []byte) bool {
	return binary.BigEndian.Uint32(b) == s.s1 && binary.BigEndian.Uint32(b[4:]) == s.s2
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// copyLostWAL copies the log if it has lost commits: SQLite uses what comes before and overwrites the rest. It returns
// the path of the copy, or "".
func copyLostWAL(path string, now time.Time) (string, error) {
	f, err := os.Open(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", withHint(err)
	}
	defer f.Close()
	log, err := io.ReadAll(io.LimitReader(f, walMaxBytes))
	if err != nil {
		return "", fmt.Errorf("read the write-ahead log: %w", err)
	}
	if !walLost(log) {
		return "", nil
	}
	to, err := freeName(path + "-wal.corrupt-" + now.UTC().Format("20060102T150405Z"))
	if err != nil {
		return "", fmt.Errorf("set the damaged log aside: %w", err)
	}
	if err := os.WriteFile(to, log, 0o600); err != nil {
		return "", fmt.Errorf("set the damaged log aside: %w", withHint(err))
	}
	return to, nil
}
