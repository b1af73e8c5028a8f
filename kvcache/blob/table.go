package blob

import (
	"runtime"
	"sync"
	"weak"

	"millrace/node"
)

// table knows which blobs are on the disk, and the Files of those that somebody holds.
type table struct {
	mu        sync.Mutex // guards all below
	disk      map[node.Digest]onDisk
	bytes     int64
	unchecked int                                  // files that must be read again
	files     map[node.Digest][]weak.Pointer[File] // several only if manifests disagree about a blob
}

// onDisk is a file. It is checked once its content was seen to be right since the last unclean end.
type onDisk struct {
	size    int64
	checked bool
}

func (t *table) fill(sizes map[node.Digest]int64, checked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disk = make(map[node.Digest]onDisk, len(sizes))
	for digest, size := range sizes {
		t.disk[digest] = onDisk{size: size, checked: checked}
		t.bytes += size
	}
	if !checked {
		t.unchecked = len(sizes)
	}
}

// file returns the File of a blob.
func (t *table) file(s *Store, b node.Blob) *File {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files == nil {
		t.files = make(map[node.Digest][]weak.Pointer[File])
	}
	for _, p := range t.files[b.Digest] {
		if f := p.Value(); f != nil && f.same(&b) {
			return f
		}
	}
	f := &File{store: s, blob: b}
	have, ok := t.disk[b.Digest]
	f.here.Store(ok && have.size == b.Size)
	t.files[b.Digest] = append(t.files[b.Digest], weak.Make(f))
	runtime.AddCleanup(f, t.forget, b.Digest)
	return f
}

// forget drops the pointers to Files that nobody holds any more.
func (t *table) forget(digest node.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []weak.Pointer[File]
	for _, p := range t.files[digest] {
		if p.Value() != nil {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		delete(t.files, digest)
		return
	}
	t.files[digest] = kept
}

func (t *table) has(digest node.Digest, size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.disk[digest]
	return ok && have.size == size
}

// add notes a file that was written and is right.
func (t *table) add(digest node.Digest, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(digest)
	t.disk[digest] = onDisk{size: size, checked: true}
	t.bytes += size
	for _, p := range t.files[digest] {
		if f := p.Value(); f != nil && f.blob.Size == size {
			f.here.Store(true)
		}
	}
}

// remove notes that a file is gone or wrong, and returns the Files of it and its size.
func (t *table) remove(digest node.Digest) (files []*File, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size = t.disk[digest].size
	t.removeLocked(digest)
	for _, p := range t.files[digest] {
		if f := p.Value(); f != nil {
			f.here.Store(false)
			files = append(files, f)
		}
	}
	return files, size
}

func (t *table) removeLocked(digest node.Digest) {
	have, ok := t.disk[digest]
	if !ok {
		return
	}
	if !have.checked {
		t.unchecked--
	}
	t.bytes -= have.size
	delete(t.disk, digest)
}

// checked reports whether a file needs no further reading before it is used.
func (t *table) checked(digest node.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.disk[digest].checked
}

// markChecked notes that the content of a file was read and is right.
func (t *table) markChecked(digest node.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have, ok := t.disk[digest]; ok && !have.checked {
		have.checked = true
		t.disk[digest] = have
		t.unchecked--
	}
}

// size returns the size of a file; ok is false if it isn't there, or must be read again.
func (t *table) size(digest node.Digest) (size int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.disk[digest]
	return have.size, ok && have.checked
}

// unread returns the size of a file that must be read again; ok is false for others.
func (t *table) unread(digest node.Digest) (size int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.disk[digest]
	return have.size, ok && !have.checked
}

func (t *table) allChecked() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unchecked == 0
}

// list returns all digests for which want returns true.
func (t *table) list(want func(node.Digest, onDisk) bool) []node.Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []node.Digest
	for digest, have := range t.disk {
		if want(digest, have) {
			out = append(out, digest)
		}
	}
	return out
}

func (t *table) totals() (files int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.disk), t.bytes
}
