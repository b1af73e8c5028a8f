package state_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"millrace/node/state"
)

// killed returns copies of a state file and its log, as a kill after that many events leaves them.
func killed(t *testing.T, count int) (db, wal []byte) {
	t.Helper()
	path := newPath(t)
	s := open(t, path)
	for i := range count {
		record(t, s, fmt.Sprint("event ", i))
	}
	return read(t, path), read(t, path+"-wal")
}

// frame is the size of a frame of the log: a header and a page.
func frame(wal []byte) int { return 24 + int(binary.BigEndian.Uint32(wal[8:])) }

// A log that has lost acknowledged commits is reported, and a copy of it is kept. A log that is complete, that ends
// within a frame, or that has no content yet isn't.
func TestDamagedLogIsReported(t *testing.T) {
	db, wal := killed(t, 50)
	size := frame(wal)
	frames := (len(wal) - 32) / size
	if frames < 20 {
		t.Fatalf("the log has %d frames", frames)
	}
	at := func(n int) int { return 32 + n*size }
	for name, c := range map[string]struct {
		log  []byte
		lost bool
	}{
		"whole":                       {wal, false},
		"none":                        {nil, false},
		"the last frame is torn":      {wal[:len(wal)-100], false},
		"the last frame is a mess":    {flipped(wal, at(frames-1)+30), false},
		"zeros":                       {make([]byte, len(wal)), false},
		"an older log behind its end": {append(bytes.Clone(wal), older(wal[at(2):at(6)])...), false},
		"garbage":                     {bytes.Repeat([]byte("garbage "), 1000), true},
		"a little garbage":            {[]byte("garbage"), true},
		"the head is a mess":          {flipped(wal, 18), true},
		"the first frame is a mess":   {flipped(wal, at(0)+40), true},
		"a frame in the middle":       {flipped(wal, at(frames/2)+40), true},
		"a frame's head":              {flipped(wal, at(frames/2)+2), true},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			write(t, path, db)
			if c.log != nil {
				write(t, path+"-wal", c.log)
			}
			s := open(t, path)
			copied := s.LostLog()
			if (copied != "") != c.lost {
				t.Fatalf("the copy is %q, lost %t", copied, c.lost)
			}
			if c.lost && !bytes.Equal(read(t, copied), c.log) {
				t.Error("the copy isn't what was there")
			}
			record(t, s, "works")
		})
	}
}

func flipped(b []byte, at int) []byte {
	out := bytes.Clone(b)
	out[at] ^= 0xff
	return out
}

// older makes frames look like those of an earlier log, which stay after the end of a log that restarts in the same
// file.
func older(frames []byte) []byte {
	out := bytes.Clone(frames)
	out[8]++
	for at := 8; at < len(out); at += len(frames) / 4 {
		out[at]++
	}
	return out
}

// A file without an identity is fresh: a new one, an empty one, and one that replaces a corrupt one.
func TestFreshIsAFileWithoutIdentity(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	if !s.Fresh() {
		t.Error("a new file isn't fresh")
	}
	closeStore(t, s)
	if s = open(t, path); s.Fresh() {
		t.Error("a file that was there is fresh")
	}
	closeStore(t, s)
	write(t, path, nil)
	if s = open(t, path); !s.Fresh() || s.SetAside() != "" {
		t.Errorf("an empty file: fresh %t, set aside %q", s.Fresh(), s.SetAside())
	}
	closeStore(t, s)
	write(t, path, []byte("no database at all"))
	if s = open(t, path); !s.Fresh() || s.SetAside() == "" {
		t.Errorf("a corrupt file: fresh %t, set aside %q", s.Fresh(), s.SetAside())
	}
}

// LogLost doesn't panic, whatever the log is, and reports no loss for an empty one.
func FuzzLog(f *testing.F) {
	path := filepath.Join(f.TempDir(), "node.db")
	s, err := state.New(state.Config{Path: path})
	if err == nil {
		err = s.Open(f.Context())
	}
	if err != nil {
		f.Fatal(err)
	}
	for range 5 {
		if err := s.Record(f.Context(), "test", "x"); err != nil {
			f.Fatal(err)
		}
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(wal)
	f.Add(wal[:100])
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, log []byte) {
		if state.LogLost(log) && len(log) == 0 {
			t.Error("nothing is lost")
		}
	})
}
