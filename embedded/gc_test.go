package embedded

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]uint64{
		0: 1000, 1 << 20: 1000, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100,
		1 << 30: 100,
	} {
		if got := gcPercent(live, 0); got != want {
			t.Errorf("with %d bytes in use the percentage is %d, want %d", live, got, want)
		}
	}
	if got := gcPercent(64<<20, 128<<20); got != 300 {
		t.Errorf("with room for twice as much the percentage is %d, want 300", got)
	}
	if got := gcPercent(0, 1<<40); got != 10_000 {
		t.Errorf("with any room the percentage is %d, want at most 10000", got)
	}
}

// AllowGarbage raises the percentage until release.
func TestAllowGarbage(t *testing.T) {
	if _, set := os.LookupEnv("GOGC"); set {
		t.Setenv("GOGC", "")
	}
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	runtime.GC() // so that the live bytes don't change during the test
	g := TuneGC()
	percent := func() int { // the percentage can only be read by setting it
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	usual := percent()
	release := g.AllowGarbage(1 << 30)
	if got := percent(); got < usual+100 {
		t.Errorf("with room for 1 GiB the percentage is %d, as usual it is %d", got, usual)
	}
	release()
	if got := percent(); got > usual*12/10 || got < usual*8/10 {
		t.Errorf("afterwards the percentage is %d, as usual it is %d", got, usual)
	}
	(*GC)(nil).AllowGarbage(1)()
}
