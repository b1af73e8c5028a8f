package edge

import (
	"testing"
	"time"
)

// The limit falls while goroutines are late, never below the floor, and comes back when they aren't.
func TestAdmissionFallsWhileGoroutinesAreLate(t *testing.T) {
	var a admission
	a.setMax(8192)
	fill := func() {
		for a.enter() {
			if a.inFlight.Load() > 1000 {
				return
			}
		}
	}
	fill()
	a.adjust(0)
	if a.limit.Load() != 8192 || a.overloaded() {
		t.Errorf("limit %d without lateness", a.limit.Load())
	}
	a.adjust(10 * lateTarget)
	if a.limit.Load() != 8192 {
		t.Errorf("limit %d after a late moment", a.limit.Load())
	}
	a.adjust(10 * lateTarget)
	if got := a.limit.Load(); got > 1000 || !a.overloaded() || a.enter() || !a.full() {
		t.Errorf("limit %d after much lateness with 1,001 in flight", got)
	}
	before := a.limit.Load()
	a.adjust(2 * lateTarget)
	if got := a.limit.Load(); got >= before || got < before*9/10 {
		t.Errorf("limit %d after some lateness, was %d", got, before)
	}
	for range 100 {
		a.adjust(time.Second)
	}
	if got := a.limit.Load(); got != minLimit() {
		t.Errorf("limit %d, floor %d", got, minLimit())
	}
	for a.inFlight.Load() > 0 {
		a.leave()
	}
	ticks := 0
	for ; a.overloaded(); ticks++ {
		a.adjust(0)
	}
	if limit := 5 * time.Second / adjustEvery; ticks > int(limit) {
		t.Errorf("normal again after %d adjustments", ticks)
	}
	a.setMax(10) // a small max_requests is below the floor
	a.adjust(time.Second)
	if a.limit.Load() != 10 {
		t.Errorf("limit %d, max 10", a.limit.Load())
	}
}

// What the runtime tells about waiting goroutines can be read, and is near nothing on a machine that isn't busy.
func TestLatenessIsNearNothingWhenIdle(t *testing.T) {
	l := newSchedLatency()
	for range 5000 {
		done := make(chan struct{})
		go close(done)
		<-done
	}
	if late := l.next(); late < 0 || late > time.Second {
		t.Errorf("goroutines are late by %s", late)
	}
	if late := l.next(); late != 0 {
		t.Errorf("late by %s though next to nothing ran", late)
	}
}
