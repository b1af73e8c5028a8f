//go:build system

package chaos_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system in memory of so many MiB and returns its directory. It is unmounted when the trial
// ends.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(mib)+"m"); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return dir
}

// fill writes a file that leaves so many MiB free. free removes the file.
func fill(t *testing.T, dir string, leave int) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.ENOSPC
	for tries := 0; errors.Is(err, unix.ENOSPC) && tries < 20; tries++ { // the node may use some of the space meanwhile
		var st unix.Statfs_t
		if err = unix.Statfs(dir, &st); err == nil {
			err = unix.Fallocate(int(f.Fd()), 0, 0, max(int64(st.Bavail)*st.Bsize-int64(leave)<<20, 1))
		}
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	_ = f.Close()
	return func() { _ = os.Remove(path) }
}
