package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DiskUsed is how many bytes the files below a directory have; 0 if there is none. Files that leave meanwhile don't
// count.
func DiskUsed(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what can't be read isn't counted
		}
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// probeBytes is what TryWrite writes: more than what systems keep aside for metadata, so that a disk counts as full a
// little early.
const probeBytes = 64 << 10

// TryWrite writes a small file into the directory, waits until it is on the disk, and removes it. The error is the
// system's: no space, a quota that is used up, a disk that was mounted read-only, or a directory that is gone. On a
// disk that doesn't answer it waits for it.
func TryWrite(dir string) (err error) {
	path := filepath.Join(dir, "disk.probe")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close(), os.Remove(path))
	}()
	if _, err := f.Write(make([]byte, probeBytes)); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	return nil
}
