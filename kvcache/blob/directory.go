package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"millrace/node"
)

// directory is where a node's files are: b/ab/<digest> is a blob whose digest begins with ab, tmp/ has files that are
// being written. The file clean exists while no Store is open, and only if the one before was closed.
type directory struct {
	path string
	// refuse, if set, is asked before n bytes are written: tests have disks that are full.
	refuse func(n int) error
}

func (d *directory) file(digest node.Digest) string {
	name := digest.String()
	return filepath.Join(d.path, "b", name[:2], name)
}

func (d *directory) temporary() string { return filepath.Join(d.path, "tmp") }
func (d *directory) marker() string    { return filepath.Join(d.path, "clean") }

// open creates what is lacking, removes what was being written, and returns the sizes of all files. clean reports
// whether the last Store was closed and the machine hasn't been started since: a file is renamed before its content is
// on the disk, which only a crash of the machine shows.
func (d *directory) open() (sizes map[node.Digest]int64, clean bool, err error) {
	if err := os.RemoveAll(d.temporary()); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(d.temporary(), 0o700); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(filepath.Join(d.path, "b"), 0o700); err != nil {
		return nil, false, err
	}
	mark, err := os.ReadFile(d.marker())
	clean = err == nil && len(mark) > 0 && string(mark) == machineStart()
	if err := os.Remove(d.marker()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	sizes, err = d.sizes()
	return sizes, clean, err
}

func (d *directory) sizes() (map[node.Digest]int64, error) {
	out := make(map[node.Digest]int64)
	err := filepath.WalkDir(filepath.Join(d.path, "b"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		digest, err := node.ParseDigest(e.Name())
		if err != nil {
			return nil //nolint:nilerr // it isn't one of ours
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out[digest] = info.Size()
		return nil
	})
	return out, err
}

// markClean writes that a Store was closed. A directory that somebody has deleted meanwhile needs no mark.
func (d *directory) markClean() error {
	err := os.WriteFile(d.marker(), []byte(machineStart()), 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// machineStart names the time since the machine was started; empty if that isn't known, so that every end counts as an
// unclean one.
func machineStart() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// writer writes one temporary file. keep makes it a blob; drop removes it. Either closes it.
type writer struct {
	*os.File

	dir *directory
}

// create returns a new temporary file.
func (d *directory) create() (*writer, error) {
	f, err := os.CreateTemp(d.temporary(), "w")
	if err != nil {
		return nil, err
	}
	return &writer{File: f, dir: d}, nil
}

func (w *writer) Write(b []byte) (int, error) {
	if w.dir.refuse != nil {
		if err := w.dir.refuse(len(b)); err != nil {
			return 0, err
		}
	}
	return w.File.Write(b)
}

func (w *writer) WriteAt(b []byte, at int64) (int, error) {
	if w.dir.refuse != nil {
		if err := w.dir.refuse(len(b)); err != nil {
			return 0, err
		}
	}
	return w.File.WriteAt(b, at)
}

// keep gives the file the name of its digest, in place of one that may be there.
func (w *writer) keep(digest node.Digest) error {
	if err := w.Close(); err != nil {
		_ = os.Remove(w.Name())
		return err
	}
	name := w.dir.file(digest)
	err := os.Rename(w.Name(), name)
	if errors.Is(err, fs.ErrNotExist) { // the first one with these digits
		if err = os.MkdirAll(filepath.Dir(name), 0o700); err == nil {
			err = os.Rename(w.Name(), name)
		}
	}
	if err != nil {
		_ = os.Remove(w.Name())
	}
	return err
}

func (w *writer) drop() {
	_ = w.Close()
	_ = os.Remove(w.Name())
}
