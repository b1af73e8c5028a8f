package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io/fs"
	"path/filepath"
	"time"
)

// watchFolder returns a channel that receives an element when something in the folder has changed and then stayed the
// same for a while, so that a build is published when it is done. The capacity is 1: a change adds nothing while one is
// waiting. The goroutine ends with ctx.
func watchFolder(ctx context.Context, dir string, every time.Duration) <-chan struct{} {
	applied, _ := fingerprint(ctx, dir)
	look := func() ([sha256.Size]byte, bool) { return fingerprint(ctx, dir) }
	return watchState(ctx, applied, every, look, func(a, b [sha256.Size]byte) bool { return a == b })
}

// fingerprint returns a value that is another one when a file in the folder has another name, size or time. ok is false
// while the folder can't be read, as when a build makes it anew.
func fingerprint(ctx context.Context, dir string) (sum [sha256.Size]byte, ok bool) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		return addEntry(h, path, d)
	})
	return [sha256.Size]byte(h.Sum(nil)), err == nil
}

func addEntry(h hash.Hash, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	size, at := info.Size(), info.ModTime().UnixNano()
	if d.IsDir() {
		size, at = 0, 0 // what is in it counts
	}
	_, err = fmt.Fprintf(h, "%q %d %d %v\n", path, size, at, info.Mode())
	return err
}
