package embedded

import "testing"

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]uint64{0: 1000, 1 << 20: 1000, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100, 1 << 30: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("with %d bytes in use the percentage is %d, want %d", live, got, want)
		}
	}
}
