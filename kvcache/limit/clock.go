package limit

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// clock is the time that limits go by: one for all nodes, within moments, whatever a node's own clock says. It is
// counted by the time that has passed since the node began, so that it has no steps when somebody sets the clock, and
// nodes tell each other what they have (see keepTime).
type clock struct {
	base  time.Time        // when the node began, with the reading of the monotonic clock
	wall  func() time.Time // the node's own clock
	at    atomic.Int64     // the limits' time at base, in Unix nanoseconds
	epoch atomic.Uint32    // how often the time was set anew, by all nodes; 0 until this one has it
	known chan struct{}    // closed once it has
	jumps atomic.Uint64    // how often the time of this node was moved at once
	state atomic.Pointer[clockState]
}

// clockState is what was found when the clocks were last compared.
type clockState struct {
	// this node's own clock, against the time that most clocks tell; or without a majority against the limits' time
	off    time.Duration
	behind time.Duration // that the limits' time is behind what most clocks tell; below 0 if it is ahead
	differ bool          // no majority of the clocks agrees, among those that were heard
	at     time.Time     // when the limits' time follows, if nothing changes; zero if it needn't
}

func newClock(wall func() time.Time) *clock {
	if wall == nil {
		wall = time.Now
	}
	c := &clock{base: time.Now(), wall: wall, known: make(chan struct{})}
	c.at.Store(wall().UnixNano())
	c.state.Store(&clockState{})
	return c
}

// now is the limits' time in Unix nanoseconds.
func (c *clock) now() int64 { return c.at.Load() + int64(time.Since(c.base)) }

// of is what the limits' time was, or will be, when this node's clock says t. The monotonic reading of t counts, if it
// has one.
func (c *clock) of(t time.Time) int64 { return c.at.Load() + int64(t.Sub(c.base)) }

// off is how far the node's own clock is ahead of the limits' time.
func (c *clock) off() int64 { return c.wall().UnixNano() - c.now() }

// set gives the node a time, if it has none yet.
func (c *clock) set(epoch uint32) {
	if c.epoch.Swap(epoch) == 0 {
		close(c.known)
	}
}

// await waits until the node has a time.
func (c *clock) await(ctx context.Context) error {
	select {
	case <-c.known:
		return nil
	default:
	}
	select {
	case <-c.known:
		return nil
	case <-ctx.Done():
		return failure{ErrAway, errNoTime}
	}
}

var errNoTime = errors.New("the node doesn't know the limits' time yet")

// agreeWithin is how much clocks may differ that agree. So much the limits' times of two nodes may differ, too, for
// moments.
const agreeWithin = int64(500 * time.Millisecond)

// agree finds the largest group of values that agree; of several, the lowest. It gives the one in the middle, and how
// many they are.
func agree(values []int64) (middle int64, n int) {
	values = slices.Sorted(slices.Values(values))
	from := 0
	for i, j := 0, 0; i < len(values); i++ {
		for j < len(values) && values[j]-values[i] <= agreeWithin {
			j++
		}
		if j-i > n {
			from, n = i, j-i
		}
	}
	if n == 0 {
		return 0, 0
	}
	return values[from+(n-1)/2], n
}

// reading is what a node's clocks say, against the limits' time of this node, in nanoseconds.
type reading struct {
	time  int64  // of the limits there
	wall  int64  // of the node's own clock
	epoch uint32 // of its time; 0 if it has none
}

// finding is what follows from comparing clocks.
type finding struct {
	epoch uint32 // that the node has from now on; 0 if it has none yet
	jump  int64  // by which its time moves at once
	drift int64  // by which it is to move little by little
	wall  int64  // what most clocks tell, against the limits' time
	most  bool   // a majority of all nodes tells it
	all   bool   // so do all that have answered
}

// judge compares the clocks of this node (own, whose time is 0) and of others that have answered, of so many nodes that
// there are. alone tells that no more answers are waited for before the node takes a time of its own.
func judge(own reading, others []reading, nodes int, alone bool) finding {
	top := own.epoch
	walls := []int64{own.wall}
	for _, o := range others {
		top = max(top, o.epoch)
		walls = append(walls, o.wall)
	}
	middle, n := agree(walls)
	v := finding{epoch: top, wall: middle, most: 2*n > max(len(walls), nodes), all: n == len(walls)}
	switch {
	case top == 0 && !alone:
		return v
	case top == 0: // nobody has a time: what most clocks tell, or the earliest of them
		v.epoch, v.jump = 1, middle
		return v
	}
	var times []int64
	for _, o := range append(others, own) {
		if o.epoch == top {
			times = append(times, o.time)
		}
	}
	if v.drift, _ = agree(times); own.epoch != top || abs(v.drift) > agreeWithin {
		v.jump, v.drift = v.drift, 0
	}
	return v
}

func abs(n int64) int64 { return max(n, -n) }
