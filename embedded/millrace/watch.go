package main

import (
	"context"
	"os"
	"time"
)

// watchEvery is how often a watched file is looked at. A change counts once two looks in a row have found the same, so
// a file that is being written isn't read in the middle.
const watchEvery = 500 * time.Millisecond

// watch tells when a file has changed, also by way of a symbolic link, as Kubernetes replaces mounted ones. A file that
// is missing for a while hasn't changed. applied is the state of the file from before it was read, so that a change
// between reading and watching counts. The goroutine ends with ctx.
func watch(ctx context.Context, path string, applied os.FileInfo, every time.Duration) <-chan struct{} {
	changes := make(chan struct{}, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		before := applied
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, err := os.Stat(path)
			if err != nil {
				continue
			}
			if unchanged(now, before) && !unchanged(now, applied) {
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

// unchanged compares what the file system tells of two states of a file.
func unchanged(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
