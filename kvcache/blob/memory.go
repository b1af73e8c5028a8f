package blob

import "sync"

// memory keeps contents of files within a limit. When it is full, files whose content wasn't asked for since the last
// round go first (second chance).
type memory struct {
	limit int64

	mu    sync.Mutex // guards all below, and setting and clearing File.content
	used  int64
	files []*File // those with a content, in no order
	hand  int     // where the next round begins
}

// keep makes content the File's content in memory if there is room, and reports whether it did.
func (m *memory) keep(f *File, content []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.content.Load() != nil {
		return true
	}
	size := int64(cap(content)) + fileOverhead
	if size > m.limit {
		return false
	}
	for m.used+size > m.limit {
		m.evictLocked()
	}
	m.used += size
	f.slot = len(m.files)
	m.files = append(m.files, f)
	f.used.Store(false) // what is loaded once and never asked for again doesn't evict what is
	f.content.Store(&content)
	return true
}

// fileOverhead is what a File with content takes beside the content, in bytes.
const fileOverhead = 256

func (m *memory) evictLocked() {
	for {
		m.hand %= len(m.files)
		f := m.files[m.hand]
		m.hand++ // also past the one that takes the place of a dropped one: it is the newest
		if !f.used.Load() {
			m.dropLocked(f)
			return
		}
		f.used.Store(false)
	}
}

// drop removes the content of a File, if it has one.
func (m *memory) drop(f *File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.content.Load() != nil {
		m.dropLocked(f)
	}
}

func (m *memory) dropLocked(f *File) {
	m.used -= int64(cap(*f.content.Load())) + fileOverhead
	last := m.files[len(m.files)-1]
	m.files[f.slot], last.slot = last, f.slot
	m.files[len(m.files)-1] = nil
	m.files = m.files[:len(m.files)-1]
	f.content.Store(nil)
}

func (m *memory) bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}
