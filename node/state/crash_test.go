package state_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"millrace/node/state"
)

// copyLive copies the file and its log as they are now to a new directory, as after a kill. It drops this process's
// POSIX locks on them, which nobody else needs here.
func copyLive(tb testing.TB, path string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "node.db")
	write(tb, to, read(tb, path))
	write(tb, to+"-wal", read(tb, path+"-wal"))
	return to
}

func TestCopyOfOpenFileWorks(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	id := identity(t, s)
	for n := range 50 {
		record(t, s, strconv.Itoa(n))
		if n%10 != 9 {
			continue
		}
		c := open(t, copyLive(t, path))
		if got := identity(t, c); got.ID != id.ID {
			t.Errorf("identity %v, want %v", got, id)
		}
		if got := events(t, c, 0); len(got) != n+1 || got[0].Detail != strconv.Itoa(n) {
			t.Errorf("%d events, want %d", len(got), n+1)
		}
		if c.SetAside() != "" || c.LostLog() != "" {
			t.Errorf("set aside %q, %q", c.SetAside(), c.LostLog())
		}
		closeStore(t, c)
	}
}

// If the last write of a log is incomplete, that write is lost and nothing else.
func TestTornLogLosesOnlyItsLastWrite(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	record(t, s, "whole")
	whole := len(read(t, path+"-wal"))
	record(t, s, "torn")
	all := len(read(t, path+"-wal"))
	for _, size := range []int{whole, whole + 1, (whole + all) / 2, all - 1, all} {
		to := copyLive(t, path)
		if err := os.Truncate(to+"-wal", int64(size)); err != nil {
			t.Fatal(err)
		}
		c := open(t, to)
		want := 1
		if size == all {
			want = 2
		}
		if got := events(t, c, 0); len(got) != want || c.SetAside() != "" || c.LostLog() != "" {
			t.Errorf("log cut to %d of %d bytes: %d events, want %d; set aside %q, %q", size, all, len(got), want,
				c.SetAside(), c.LostLog())
		}
		closeStore(t, c)
	}
}

// SQLite switches a new file to WAL under a rollback journal. A kill at that moment leaves both.
func TestKilledWhileCreating(t *testing.T) {
	path := newPath(t)
	db := rawOpen(t, path)
	defer db.Close()
	for _, q := range []string{
		"PRAGMA cache_size = 1", "VACUUM", "BEGIN", "CREATE TABLE t (a)",
		"INSERT INTO t VALUES (zeroblob(200000))",
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	to := newPath(t)
	write(t, to, read(t, path))
	write(t, to+"-journal", read(t, path+"-journal"))
	if len(read(t, to)) == 0 {
		t.Fatal("SQLite wrote nothing yet: the journal isn't needed")
	}
	s := open(t, to)
	record(t, s, "works")
	if s.SetAside() != "" || s.LostLog() != "" {
		t.Errorf("set aside %q", s.SetAside())
	}
}

// TestKillLosesNothingAcknowledged kills a node several times while it writes, and counts the acknowledged events.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	path := newPath(t)
	var acked int
	var id string
	for round := range 3 {
		acked += runAndKill(t, path, 20+7*round)
		s := open(t, path) // the lock was released with its process
		if s.SetAside() != "" || s.LostLog() != "" {
			t.Fatalf("set aside %q, %q", s.SetAside(), s.LostLog())
		}
		got := identity(t, s)
		if id != "" && got.ID != id {
			t.Errorf("identity %v, want %v", got, id)
		}
		id = got.ID
		stored := len(events(t, s, 0))
		if stored < acked {
			t.Errorf("round %d: %d events stored, %d acknowledged", round, stored, acked)
		}
		acked = stored // events acknowledged between the last line read and the kill
		closeStore(t, s)
	}
}

// runAndKill starts a child process, kills it after that many acknowledged events and returns their number.
func runAndKill(t *testing.T, path string, after int) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, n := bufio.NewScanner(out), 0
	for n < after && lines.Scan() {
		n++
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if n < after {
		t.Errorf("the child acknowledged %d events, want %d", n, after)
	}
	_ = cmd.Wait() // "signal: killed"
	return n
}

// recordForever is the child process. It prints a line for each event that is on disk.
func recordForever(path string) {
	ctx := context.Background()
	s, err := state.New(state.Config{Path: path})
	if err != nil {
		panic(err)
	}
	if err := s.Open(ctx); err != nil {
		panic(err)
	}
	for n := 0; ; n++ {
		if err := s.Record(ctx, "test", strconv.Itoa(n)); err != nil {
			panic(err)
		}
		if _, err := fmt.Fprintln(os.Stdout, n); err != nil {
			return // the parent process has exited
		}
	}
}
