package machine_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"millrace/embedded/machine"
)

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	if free, err := machine.DiskFree(dir); err != nil || free <= 0 {
		t.Errorf("free: %d, %v", free, err)
	}
	if used := machine.DiskUsed(dir); used != 0 {
		t.Errorf("an empty directory uses %d bytes", used)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "b", "c"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if used := machine.DiskUsed(dir); used != 1000 {
		t.Errorf("a file of 1000 bytes: %d", used)
	}
	if err := machine.TryWrite(dir); err != nil {
		t.Error(err)
	}
	if used := machine.DiskUsed(dir); used != 1000 {
		t.Errorf("after a write that was tried: %d", used)
	}
	gone := filepath.Join(dir, "gone")
	if err := machine.TryWrite(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that isn't there: %v", err)
	}
	if _, err := machine.DiskFree(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that isn't there: %v", err)
	}
	if used := machine.DiskUsed(gone); used != 0 {
		t.Errorf("a directory that isn't there uses %d bytes", used)
	}
}
