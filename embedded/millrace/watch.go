package main

import (
	"context"
	"os"
	"time"
)

// watchEvery is how often a watched file is checked. A change counts once two checks in a row have found the same
// state, so that a file isn't read while it is being written.
const watchEvery = 500 * time.Millisecond

// watch returns a channel that receives an element when the file has changed, also if a symbolic link leads to another
// file, as with mounts of Kubernetes. The capacity is 1: a change adds nothing while one is waiting. A file that is
// missing for a while hasn't changed. applied is the state of the file from before it was read, so that a change
// between reading and watching counts. The goroutine ends with ctx.
func watch(ctx context.Context, path string, applied os.FileInfo, every time.Duration) <-chan struct{} {
	look := func() (os.FileInfo, bool) {
		now, err := os.Stat(path)
		return now, err == nil
	}
	return watchState(ctx, applied, every, look, unchanged)
}

// watchState returns a channel that receives an element when two looks in a row have found the same state, and it isn't
// the one that was applied last. The capacity is 1: a change adds nothing while one is waiting. A look that isn't ok
// counts for nothing. Looking takes at most a tenth of the time: after a slow look there is a longer pause. The
// goroutine ends with ctx.
func watchState[S any](
	ctx context.Context, applied S, every time.Duration, look func() (now S, ok bool), same func(a, b S) bool,
) <-chan struct{} {
	changes := make(chan struct{}, 1)
	go func() {
		before, pause := applied, every
		for {
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			begun := time.Now()
			now, ok := look()
			pause = max(every, 10*time.Since(begun))
			if !ok {
				continue
			}
			if same(now, before) && !same(now, applied) {
				applied = now
				select {
				case changes <- struct{}{}:
				default: // one is waiting already
				}
			}
			before = now
		}
	}()
	return changes
}

// unchanged reports whether two states of a file are the same.
func unchanged(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
