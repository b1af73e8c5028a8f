package limit

import (
	"context"
	"time"
)

// How often the nodes' clocks are compared; how long a node that has just begun waits for others before it takes what
// its own clock says; and for how long most clocks must tell another time than the limits' before that follows them: at
// once almost while a node is young, when its clock is set most often (and so that starting a node again is a way to
// make it follow), else long, so that clocks that are all wrong for a while change nothing.
const (
	timeEvery = 2 * time.Second
	timeFirst = 100 * time.Millisecond
	timeAlone = time.Second
	// that answers are waited for at first; twice as long each time until there is a time, but at most timeAlone.
	timeAnswer  = 60 * time.Millisecond
	youngFor    = time.Minute
	followYoung = 5 * time.Second
	followOld   = time.Hour
)

// driftRate is how much the limits' time moves at most, to follow others without a step: one part of so many.
const driftRate = 1000

// timekeeper compares this node's clocks with the others'. One goroutine uses it.
type timekeeper struct {
	l      *Limiter
	begun  time.Time
	wait   time.Duration // for answers
	last   time.Time     // comparison
	asleep time.Duration // for which the machine was suspended, when it was last looked at
	since  time.Time     // when most clocks began to tell another time; zero if they don't
	told   int64         // what they tell, against the limits' time
	wrong  bool          // the log has it that this node's clock is off
}

// keepTime keeps the limits' time until ctx ends.
func (l *Limiter) keepTime(ctx context.Context) {
	k := &timekeeper{l: l, begun: time.Now(), wait: timeAnswer, last: time.Now(), asleep: suspended()}
	for ctx.Err() == nil {
		k.compare(ctx)
		wait := timeFirst / 4
		if l.clock.epoch.Load() > 0 {
			wait = timeEvery * time.Duration(1+l.peers.nodes()/8)
		}
		pause(ctx, wait)
	}
}

// compare asks the other nodes for their time, once.
func (k *timekeeper) compare(ctx context.Context) {
	c, now := k.l.clock, time.Now()
	if asleep := suspended(); asleep-k.asleep > timeFirst { // time that the monotonic clock doesn't count
		c.at.Add(int64(asleep - k.asleep))
		k.asleep = asleep
	}
	nodes := k.l.peers.nodes()
	var others []reading
	if nodes > 1 {
		others = k.l.readings(ctx, k.wait)
		k.wait = min(2*k.wait, timeAlone)
	}
	own := reading{wall: c.off(), epoch: c.epoch.Load()}
	v := judge(own, others, nodes, nodes == 1 || len(others) >= nodes-1 || time.Since(k.begun) >= timeAlone)
	if v.jump != 0 {
		k.l.moveTime(v.jump)
	}
	if v.epoch > 0 {
		c.set(v.epoch)
	}
	k.follow(&v, now)
	k.drift(&v, now)
	k.tell(ctx, &v, own.wall-v.jump)
	k.last = now
}

// readings asks the other nodes what their clocks say. An answer is taken to be of the middle of the time that it took.
func (l *Limiter) readings(ctx context.Context, wait time.Duration) (out []reading) {
	sent := time.Now()
	for _, g := range l.peers.recall(ctx, want{Op: opClock, From: l.cfg.Node}, wait) {
		if g.Wall == 0 { // of an earlier release
			continue
		}
		here := l.clock.of(sent.Add(g.Heard.Sub(sent) / 2))
		out = append(out, reading{time: g.Time - here, wall: g.Wall - here, epoch: g.Epoch})
	}
	return out
}

// follow makes the limits' time what most clocks tell, if they have told it for long.
func (k *timekeeper) follow(v *finding, now time.Time) {
	wall := v.wall - v.jump
	switch {
	case v.epoch == 0, !v.most, abs(wall) <= agreeWithin:
		k.since = time.Time{}
		return
	case k.since.IsZero(), abs(wall-k.told) > agreeWithin:
		k.since, k.told = now, wall
	}
	if now.Before(k.followsAt()) {
		return
	}
	k.since = time.Time{}
	k.l.moveTime(wall)
	k.l.clock.set(v.epoch + 1)
	v.jump += wall
	k.l.cfg.Log.Warn("limits follow the nodes' clocks: the time that they go by has moved",
		"by", time.Duration(wall).String())
}

// followsAt is when the limits' time follows the clocks, if nothing changes.
func (k *timekeeper) followsAt() time.Time {
	if k.since.Sub(k.begun) < youngFor {
		return k.since.Add(followYoung)
	}
	return k.since.Add(followOld)
}

// drift moves the time little by little: to the other nodes' time if it differs, or else to what most clocks tell.
func (k *timekeeper) drift(v *finding, now time.Time) {
	by := v.drift
	if wall := v.wall - v.jump; abs(by) < int64(time.Millisecond) && v.most && abs(wall) <= agreeWithin {
		by = wall
	}
	most := int64(now.Sub(k.last) / driftRate)
	k.l.clock.at.Add(max(min(by, most), -most))
}

// tell notes what was found, for the operator.
func (k *timekeeper) tell(ctx context.Context, v *finding, wall int64) {
	s := clockState{off: time.Duration(wall), differ: !v.most && !v.all}
	if v.most {
		s.behind = time.Duration(v.wall - v.jump)
		s.off -= s.behind
	}
	if !k.since.IsZero() {
		s.at = k.followsAt()
	}
	k.l.clock.state.Store(&s)
	wrong := abs(int64(s.off)) > agreeWithin
	if wrong && k.l.cfg.Yield != nil {
		k.l.cfg.Yield() // a server whose clock is ahead forgets records before their time
	}
	if wrong != k.wrong {
		if k.wrong = wrong; wrong {
			k.l.cfg.Log.WarnContext(ctx, "this node's clock is off: limits go by what most nodes' clocks tell",
				"ahead_by", s.off.String())
		} else {
			k.l.cfg.Log.InfoContext(ctx, "this node's clock is right again")
		}
	}
}

// moveTime moves the limits' time at once. What the node knows of keys is of another time then: it forgets it, permits
// included, and reads the records again, which bring is for. Its own part of limits begins with the next windows.
func (l *Limiter) moveTime(by int64) {
	if l.clock.epoch.Load() == 0 { // nothing was leased yet
		l.clock.at.Add(by)
		return
	}
	if l.slot.since.Load() != 0 { // before the windows of the new time can begin
		l.slot.since.Store(l.clock.now() + by)
	}
	l.clock.at.Add(by)
	l.clock.jumps.Add(1)
	l.table.clear()
	for _, r := range *l.rules.Load() {
		if r.kind == concurrent {
			r.places.doubt()
		}
	}
}
