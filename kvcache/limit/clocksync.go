package limit

import (
	"context"
	"time"
)

// clockSyncEvery is how often the nodes compare their clocks. A node that has just started waits at most clockSyncAlone
// for others before it uses its own clock. When most clocks differ from the limits' time for followOld, the limits'
// time follows them: clocks that are all wrong for a while change nothing. For a node younger than youngFor it is
// followYoung, since clocks are set most often just after the start, and so that a restart makes the node follow its
// clock.
const (
	clockSyncEvery = 2 * time.Second
	clockSyncFirst = 100 * time.Millisecond
	clockSyncAlone = time.Second
	// How long the first comparison waits for answers. The wait doubles each time, up to clockSyncAlone.
	clockSyncAnswer = 60 * time.Millisecond
	youngFor        = time.Minute
	followYoung     = 5 * time.Second
	followOld       = time.Hour
)

// driftRate limits how fast the limits' time moves gradually: by at most 1/driftRate of the time that passes.
const driftRate = 1000

// clockSync compares this node's clocks with those of the other nodes. It is used by one goroutine.
type clockSync struct {
	l           *Limiter
	begun       time.Time
	wait        time.Duration // how long it waits for answers
	last        time.Time     // the last comparison
	asleep      time.Duration // total suspension of the machine at the last comparison
	differSince time.Time     // since when most clocks differ from the limits' time; zero if they don't
	followWall  int64         // what most clocks said then, relative to the limits' time
	wallOff     bool          // the log says that this node's clock is off
}

// syncClock compares clocks until ctx ends.
func (l *Limiter) syncClock(ctx context.Context) {
	k := &clockSync{l: l, begun: time.Now(), wait: clockSyncAnswer, last: time.Now(), asleep: suspended()}
	for ctx.Err() == nil {
		k.compare(ctx)
		wait := clockSyncFirst / 4
		if l.clock.epoch.Load() > 0 {
			wait = clockSyncEvery * time.Duration(1+l.peers.nodes()/8)
		}
		pause(ctx, wait)
	}
}

// compare asks the other nodes for their clocks once, and adjusts this node's time.
func (k *clockSync) compare(ctx context.Context) {
	c, now := k.l.clock, time.Now()
	if asleep := suspended(); asleep-k.asleep > clockSyncFirst { // the monotonic clock leaves this time out
		c.atBase.Add(int64(asleep - k.asleep))
		k.asleep = asleep
	}
	nodes := k.l.peers.nodes()
	var others []reading
	if nodes > 1 {
		others = k.l.readings(ctx, k.wait)
		k.wait = min(2*k.wait, clockSyncAlone)
	}
	own := reading{wall: c.wallAhead(), epoch: c.epoch.Load()}
	v := compareReadings(own, others, nodes,
		nodes == 1 || len(others) >= nodes-1 || time.Since(k.begun) >= clockSyncAlone)
	if v.jump != 0 {
		k.l.moveTime(v.jump)
	}
	if v.epoch > 0 {
		c.setEpoch(v.epoch)
	}
	k.follow(&v, now)
	k.drift(&v, now)
	k.report(ctx, &v, own.wall-v.jump)
	k.last = now
}

// readings asks the other nodes for their clocks. It assumes that a node read them halfway between request and reply.
func (l *Limiter) readings(ctx context.Context, wait time.Duration) (out []reading) {
	sent := time.Now()
	for _, reply := range l.peers.recall(ctx, recallRequest{Op: opClock, From: l.cfg.Node}, wait) {
		if reply.Wall == 0 { // from an earlier release
			continue
		}
		here := l.clock.at(sent.Add(reply.ReceivedAt.Sub(sent) / 2))
		out = append(out, reading{time: reply.Time - here, wall: reply.Wall - here, epoch: reply.Epoch})
	}
	return out
}

// follow moves the limits' time to that of most clocks once they have differed for long enough.
func (k *clockSync) follow(v *comparison, now time.Time) {
	wall := v.wall - v.jump
	switch {
	case v.epoch == 0, !v.majority, abs(wall) <= agreeWithin:
		k.differSince = time.Time{}
		return
	case k.differSince.IsZero(), abs(wall-k.followWall) > agreeWithin:
		k.differSince, k.followWall = now, wall
	}
	if now.Before(k.followsAt()) {
		return
	}
	k.differSince = time.Time{}
	k.l.moveTime(wall)
	k.l.clock.setEpoch(v.epoch + 1)
	v.jump += wall
	k.l.cfg.Log.Warn("limits follow the nodes' clocks: the time that they go by has moved",
		"by", time.Duration(wall).String())
}

// followsAt returns when the limits' time will follow the clocks if nothing changes.
func (k *clockSync) followsAt() time.Time {
	if k.differSince.Sub(k.begun) < youngFor {
		return k.differSince.Add(followYoung)
	}
	return k.differSince.Add(followOld)
}

// drift moves the time gradually: to that of the other nodes if it differs, or else to that of most clocks.
func (k *clockSync) drift(v *comparison, now time.Time) {
	by := v.drift
	if wall := v.wall - v.jump; abs(by) < int64(time.Millisecond) && v.majority && abs(wall) <= agreeWithin {
		by = wall
	}
	most := int64(now.Sub(k.last) / driftRate)
	k.l.clock.atBase.Add(max(min(by, most), -most))
}

// report stores the clock state for Conditions, and logs when this node's clock goes wrong or right.
func (k *clockSync) report(ctx context.Context, v *comparison, wall int64) {
	s := clockState{wallAhead: time.Duration(wall), differ: !v.majority && !v.unanimous}
	if v.majority {
		s.behind = time.Duration(v.wall - v.jump)
		s.wallAhead -= s.behind
	}
	if !k.differSince.IsZero() {
		s.followsAt = k.followsAt()
	}
	k.l.clock.state.Store(&s)
	off := abs(int64(s.wallAhead)) > agreeWithin
	if off && k.l.cfg.Yield != nil {
		k.l.cfg.Yield() // a leader whose clock is ahead would expire records too early
	}
	if off != k.wallOff {
		if k.wallOff = off; off {
			k.l.cfg.Log.WarnContext(ctx, "this node's clock is off: limits go by what most nodes' clocks tell",
				"ahead_by", s.wallAhead.String())
		} else {
			k.l.cfg.Log.InfoContext(ctx, "this node's clock is right again")
		}
	}
}

// moveTime moves the limits' time at once. What the node knows about keys belongs to the old time, so it forgets all of
// it, permits included, and reads the records again (see rebase). Its own share of limits begins with the next windows.
func (l *Limiter) moveTime(by int64) {
	if l.clock.epoch.Load() == 0 { // nothing is leased yet
		l.clock.atBase.Add(by)
		return
	}
	if l.share.since.Load() != 0 { // store this first: windows of the new time can begin as soon as the time moves
		l.share.since.Store(l.clock.now() + by)
	}
	l.clock.atBase.Add(by)
	l.clock.jumps.Add(1)
	l.table.clear()
	for _, r := range *l.rules.Load() {
		if r.kind == concurrent {
			r.inflight.invalidate()
		}
	}
}
