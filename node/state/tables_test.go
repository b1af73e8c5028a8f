package state_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"millrace/node/state"
)

func TestSecret(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	got := make([]string, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = s.Secret(t.Context(), "mesh.token"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, v := range got {
		if v != got[0] {
			t.Fatalf("racing callers got %q and %q", got[0], v)
		}
	}
	if raw, err := base64.RawURLEncoding.DecodeString(got[0]); err != nil || len(raw) != 32 {
		t.Errorf("%q is %d bytes, %v", got[0], len(raw), err)
	}
	if other, err := s.Secret(t.Context(), "other"); err != nil || other == got[0] {
		t.Errorf("another name: %q, %v", other, err)
	}
	closeStore(t, s)
	if again, err := open(t, path).Secret(t.Context(), "mesh.token"); err != nil || again != got[0] {
		t.Errorf("after a restart %q, %v; was %q", again, err, got[0])
	}
}

func TestSecretName(t *testing.T) {
	if _, err := open(t, newPath(t)).Secret(t.Context(), ""); err == nil {
		t.Error("empty name: no error")
	}
}

func TestNoConfig(t *testing.T) {
	s := open(t, newPath(t))
	if _, err := s.LastConfig(t.Context()); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("LastConfig: %v, want ErrNotFound", err)
	}
	if list, err := s.Configs(t.Context(), 0); err != nil || list == nil || len(list) != 0 {
		t.Errorf("Configs: %v, %v", list, err)
	}
}

func TestSaveConfigTwice(t *testing.T) {
	s := open(t, newPath(t))
	save := func(text, source string, want state.ConfigRevision) {
		t.Helper()
		want.Applied = epoch
		got, err := s.SaveConfig(t.Context(), text, source)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("saved %+v, want %+v", got, want)
		}
		if last, err := s.LastConfig(t.Context()); err != nil || last != want {
			t.Errorf("last %+v, %v; want %+v", last, err, want)
		}
	}
	save("a", "file", state.ConfigRevision{Revision: 1, Text: "a", Source: "file"})
	save("a", "admin", state.ConfigRevision{Revision: 1, Text: "a", Source: "file"})
	save("b", "admin", state.ConfigRevision{Revision: 2, Text: "b", Source: "admin"})
	save("a", "admin", state.ConfigRevision{Revision: 3, Text: "a", Source: "admin"})
}

func TestConfigsAreBounded(t *testing.T) {
	s := open(t, newPath(t))
	const saved = state.MaxConfigs + 5
	for n := 1; n <= saved; n++ {
		if _, err := s.SaveConfig(t.Context(), "version: "+strconv.Itoa(n), "test"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ limit, want int }{
		{0, state.MaxConfigs},
		{-1, state.MaxConfigs},
		{3, 3},
		{1000, state.MaxConfigs},
	} {
		list, err := s.Configs(t.Context(), c.limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != c.want {
			t.Fatalf("limit %d: %d configs, want %d", c.limit, len(list), c.want)
		}
		for i, got := range list {
			if want := int64(saved - i); got.Revision != want || got.Text != fmt.Sprint("version: ", want) {
				t.Fatalf("limit %d: config %d is %+v", c.limit, i, got)
			}
		}
	}
}

func TestLastEvent(t *testing.T) {
	s := open(t, newPath(t))
	last := func(want string, kinds ...string) {
		t.Helper()
		got, err := s.LastEvent(t.Context(), kinds...)
		if want == "" && !errors.Is(err, state.ErrNotFound) || want != "" && (err != nil || got.Kind != want) {
			t.Errorf("%q: got %+v, %v", kinds, got, err)
		}
	}
	last("", "start", "stop")
	for _, kind := range []string{"start", "stop", "other", "start", "other", "other"} {
		if err := s.Record(t.Context(), kind, ""); err != nil {
			t.Fatal(err)
		}
	}
	last("start", "start", "stop")
	last("stop", "stop")
	last("", "none", "' OR 1 --")
	last("")
	if e, err := s.LastEvent(t.Context(), "start"); err != nil || e.Seq != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	path := newPath(t)
	filled(t, path) // three events
	rawExec(t, path, "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < "+
		strconv.Itoa(state.MaxEvents-3)+") INSERT INTO events (time_us, kind, detail) SELECT i, 'bulk', 'x' FROM n")
	s := open(t, path)
	if got := len(events(t, s, 0)); got != state.MaxEvents {
		t.Fatalf("%d events", got)
	}
	for range 5 {
		record(t, s, "new")
	}
	list := events(t, s, -1)
	if len(list) != state.MaxEvents || list[0].Seq != state.MaxEvents+5 || list[len(list)-1].Seq != 6 {
		t.Errorf("%d events, %d to %d", len(list), list[len(list)-1].Seq, list[0].Seq)
	}
}

func TestConcurrentRecord(t *testing.T) {
	s := open(t, newPath(t))
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				if err := s.Record(t.Context(), "test", fmt.Sprint(w, " ", n)); err != nil {
					t.Error(err)
				}
				if _, err := s.Events(t.Context(), 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, seen := events(t, s, 0), map[string]bool{}
	for i, e := range list {
		seen[e.Detail] = true
		if want := int64(writers*each - i); e.Seq != want {
			t.Fatalf("event %d has seq %d, want %d", i, e.Seq, want)
		}
	}
	if len(list) != writers*each || len(seen) != len(list) {
		t.Errorf("%d events, %d different, want %d", len(list), len(seen), writers*each)
	}
}

func TestRecordChecks(t *testing.T) {
	s := open(t, newPath(t))
	if err := s.Record(t.Context(), "", "x"); err == nil {
		t.Error("empty kind: no error")
	}
	for _, c := range []struct {
		detail string
		want   int
	}{
		{"", 0},
		{strings.Repeat("x", state.MaxDetailBytes), state.MaxDetailBytes},
		{strings.Repeat("x", state.MaxDetailBytes+1), state.MaxDetailBytes},
		{"x" + strings.Repeat("ü", state.MaxDetailBytes), state.MaxDetailBytes - 1},
	} {
		record(t, s, c.detail)
		got := events(t, s, 1)[0].Detail
		if len(got) != c.want || !strings.HasPrefix(c.detail, got) || !utf8.ValidString(got) {
			t.Errorf("a detail of %d bytes is kept as %d, want %d", len(c.detail), len(got), c.want)
		}
	}
	if got := len(events(t, s, 0)); got != 4 {
		t.Errorf("%d events, want 4", got)
	}
}

func BenchmarkRecord(b *testing.B) {
	s := open(b, newPath(b))
	b.ReportAllocs()
	for b.Loop() {
		record(b, s, "benchmark")
	}
}
