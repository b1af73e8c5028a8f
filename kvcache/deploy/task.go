package deploy

import (
	"context"
	"time"

	"millrace/node"
)

// task is what a node has to do about a deploy.
type task int

// The tasks, in the order in which they are wanted.
const (
	taskLive   task = iota // bring what is live
	taskRemake             // make the index of a deploy again, with other options or files
	taskStage              // bring another deploy
	taskRest               // bring what was left for later
	tasks
)

// maxRunning is how many tasks run at once. The last one is for deploys below smallDeploy bytes, so that large files
// that come slowly don't keep all others from becoming ready.
const (
	maxRunning  = 4
	smallDeploy = 16 << 20
)

// running counts the tasks that run.
type running [tasks]int

func (r *running) total() (n int) {
	for _, k := range r {
		n += k
	}
	return n
}

func (r *running) ended(t task) { r[t]-- }

// room reports whether one more task may start. Each kind but the first leaves room for those before it.
func (r *running) room(j *job) bool {
	if j.entry.record.Bytes < smallDeploy && (j.task == taskLive || j.task == taskStage) {
		return r.total() < maxRunning
	}
	if r.total() >= maxRunning-1 {
		return false
	}
	switch j.task {
	case taskStage:
		return r[taskStage] < 2
	case taskRemake, taskRest:
		return r[j.task] == 0
	case taskLive, tasks:
	}
	return true
}

// job is a task about one deploy.
type job struct {
	table *table
	entry *entry
	task  task
	made  made // how the deploy is to be made
}

// before reports whether a job comes before another one: by its task, and then the newer deploy.
func (j *job) before(o *job) bool {
	if o.entry == nil || j.task != o.task {
		return o.entry == nil || j.task < o.task
	}
	return j.entry.record.At.After(o.entry.record.At)
}

// bring starts the tasks for which there is room.
func (f *follower) bring(ctx context.Context) {
	if !f.scan || f.reading != nil { // what is live may be the last that a new watch passes on
		return
	}
	now := f.store.cfg.Now()
	for {
		j := f.mostWanted(now)
		if j.entry == nil {
			f.scan = false
			return
		}
		f.start(ctx, j, now)
	}
}

// mostWanted returns the job to start next; its entry is nil if there is none.
func (f *follower) mostWanted(now time.Time) (best job) {
	for _, t := range f.tables {
		options := optionsOf(f.settings, t.name)
		for _, e := range t.newest {
			if e.busy != nil || now.Before(e.again) {
				continue
			}
			j := job{table: t, entry: e, made: made{options: options, light: e.light}}
			if j.wanted() && f.running.room(&j) && j.before(&best) {
				best = j
			}
		}
	}
	return best
}

// wanted sets the task, and reports whether there is something to do.
func (j *job) wanted() bool {
	live := j.entry.record.ID() == j.table.change.ID
	switch e := j.entry; {
	case live && !e.full():
		j.task = taskLive
	case e.deploy == nil:
		j.task = taskStage
	case !e.made.same(&j.made):
		j.task = taskRemake
	case len(e.rest) > 0:
		j.task = taskRest
	default:
		return false
	}
	return true
}

// start starts a job.
func (f *follower) start(ctx context.Context, j job, now time.Time) {
	e := j.entry
	ctx, e.busy = context.WithCancel(ctx)
	e.attempts++
	f.running[j.task]++
	w := work{
		site: j.table.name, entry: e, record: e.record, task: j.task, made: j.made, fill: f.store.cfg.Fill,
		progress: e.progress, before: e.deploy, live: j.table.site.State().Live,
	}
	switch {
	case j.task == taskRest:
		w.rest, e.rest = e.rest, nil
	case e.deploy == nil:
		e.stage, e.since = stageBringing, now
		if j.task == taskLive && w.live == nil {
			w.fill = node.FillDemand // nothing is served: better each file when it is asked for than none
		}
	}
	go func() { f.brought <- f.store.run(ctx, &w) }()
}

// finish applies the result of a job.
func (f *follower) finish(b brought) {
	f.running.ended(b.task)
	e, now := b.entry, f.store.cfg.Now()
	e.busy()
	e.busy, f.scan = nil, true
	t := f.table(b.site)
	if t.deploys[e.record.ID()] != e { // it was deleted meanwhile
		return
	}
	if b.err != nil {
		f.failed(&b, now)
		return
	}
	e.attempts = 0
	if b.task == taskRest {
		return
	}
	staged := e.deploy == nil
	e.stage, e.failed, e.deploy, e.made, f.unsaved = stageReady, nil, b.deploy, b.made, true
	if staged {
		e.rest, e.since = b.rest, now
	}
	f.publish(t)
	if staged {
		f.aside.tell(Event{Site: b.site, What: "staged", ID: e.record.ID(), Node: f.store.cfg.Node, At: now})
	}
}

// failed notes that a job has failed, and when it is tried again.
func (f *follower) failed(b *brought, now time.Time) {
	e := b.entry
	e.again = now.Add(backoff(e.attempts))
	if b.task == taskRest {
		e.rest = b.rest
	} else {
		e.failed = b.err
	}
	if e.deploy == nil {
		e.stage, e.since = stageFailed, now
	}
	f.store.cfg.Log.Error("a deploy can't be brought to this node; it is tried again", "site", b.site,
		"id", e.record.ID().Short(), "cause", b.err)
}

// After an attempt that failed a deploy is brought again, first after againFirst; it doubles up to againLast.
const (
	againFirst = time.Second
	againLast  = time.Minute
)

// backoff returns how long to wait after so many attempts that failed.
func backoff(attempts int) time.Duration { return min(againFirst<<min(attempts-1, 10), againLast) }
