package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DiskUsed returns the size of all files below a directory in bytes; 0 if there are none. Files that disappear
// meanwhile don't count.
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

// probeBytes is the size of the file that TryWrite writes. It is more than file systems reserve for metadata, so a disk
// counts as full a little early.
const probeBytes = 64 << 10

// TryWrite writes a small file into the directory, syncs it, and removes it. The error is the system's: no space, an
// exceeded quota, a read-only disk, or a missing directory. On a disk that doesn't answer, TryWrite blocks.
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
