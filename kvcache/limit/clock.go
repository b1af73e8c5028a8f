package limit

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// clock is the time that limits use. All nodes have the same time to within moments, whatever their own clocks say. It
// advances by the time that has passed since the node began, so it doesn't jump when somebody sets the system clock.
// The nodes compare their times (see syncClock).
type clock struct {
	base   time.Time        // when the node began, with a monotonic reading
	wall   func() time.Time // the node's own clock
	atBase atomic.Int64     // limits' time at base, in Unix nanoseconds
	epoch  atomic.Uint32    // how often all nodes have set the time anew; 0 until this node has a time
	known  chan struct{}    // closed once this node has a time
	jumps  atomic.Uint64    // how often this node's time has jumped
	state  atomic.Pointer[clockState]
}

// clockState is the result of the last comparison of clocks.
type clockState struct {
	// How far this node's clock is ahead of most clocks; without a majority, ahead of the limits' time.
	wallAhead time.Duration
	behind    time.Duration // how far the limits' time is behind most clocks; negative if it is ahead
	differ    bool          // no majority of the clocks that answered agrees
	followsAt time.Time     // when the limits' time moves to most clocks' if nothing changes; zero if it won't
}

func newClock(wall func() time.Time) *clock {
	if wall == nil {
		wall = time.Now
	}
	c := &clock{base: time.Now(), wall: wall, known: make(chan struct{})}
	c.atBase.Store(wall().UnixNano())
	c.state.Store(&clockState{})
	return c
}

// now returns the limits' time in Unix nanoseconds.
func (c *clock) now() int64 { return c.atBase.Load() + int64(time.Since(c.base)) }

// at converts a time of this node's clock to the limits' time. It uses the monotonic reading of t if there is one.
func (c *clock) at(t time.Time) int64 { return c.atBase.Load() + int64(t.Sub(c.base)) }

// wallAhead returns how far the node's own clock is ahead of the limits' time, in nanoseconds.
func (c *clock) wallAhead() int64 { return c.wall().UnixNano() - c.now() }

// setEpoch stores the epoch. The first one means that the node has a time.
func (c *clock) setEpoch(epoch uint32) {
	if c.epoch.Swap(epoch) == 0 {
		close(c.known)
	}
}

// await waits until the node has a time. The error is ErrAway with its cause.
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

// agreeWithin is the largest difference between clocks that agree. The limits' times of two nodes may briefly differ by
// as much.
const agreeWithin = int64(500 * time.Millisecond)

// agree finds the largest group of values that agree; of groups of equal size, the lowest. It returns the group's
// median and size.
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

// reading is what a node's clocks say, relative to the limits' time of this node, in nanoseconds.
type reading struct {
	time  int64  // limits' time of that node
	wall  int64  // that node's own clock
	epoch uint32 // epoch of its time; 0 if it has none
}

// comparison is the result of compareReadings.
type comparison struct {
	epoch     uint32 // epoch of this node from now on; 0 if it still has no time
	jump      int64  // by how much its time moves at once
	drift     int64  // by how much its time moves gradually
	wall      int64  // what most clocks say, relative to the limits' time
	majority  bool   // a majority of all nodes agrees on wall
	unanimous bool   // all nodes that have answered agree on wall
}

// compareReadings compares the clocks of this node (own, whose time is 0) with those of the nodes that have answered.
// nodes is the number of all nodes. alone means that the node waits for no more answers before it takes a time of its
// own.
func compareReadings(own reading, others []reading, nodes int, alone bool) comparison {
	top := own.epoch
	walls := []int64{own.wall}
	for _, o := range others {
		top = max(top, o.epoch)
		walls = append(walls, o.wall)
	}
	middle, n := agree(walls)
	v := comparison{epoch: top, wall: middle, majority: 2*n > max(len(walls), nodes), unanimous: n == len(walls)}
	switch {
	case top == 0 && !alone:
		return v
	case top == 0: // no node has a time: take what most clocks say, or the earliest group
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
