package blob

import (
	"container/list"
	"os"
	"sync"
)

// maxOpen is how many files stay open while nobody reads them. Those that are being read aren't counted out.
const maxOpen = 1024

// descriptors keeps files open. One that isn't being read may be closed when another one is opened.
type descriptors struct {
	mu     sync.Mutex // guards all below, and the descriptor of each File
	idle   list.List  // of *File that nobody reads, the one that was used last in front
	open   int
	closed bool
}

// descriptor is the open file of a File. Its users read at offsets of their own.
type descriptor struct {
	file    *os.File
	users   int
	retired []*os.File    // of wrong content, closed when there are no users
	element *list.Element // in descriptors.idle; nil while there are users
}

// acquire returns the open file of a File; open opens it if it isn't.
func (d *descriptors) acquire(f *File, open func() (*os.File, error)) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	if f.fd.file == nil {
		file, err := open()
		if err != nil {
			return nil, err
		}
		f.fd.file = file
		d.open++
	}
	if f.fd.element != nil {
		d.idle.Remove(f.fd.element)
		f.fd.element = nil
	}
	f.fd.users++
	for d.open > maxOpen && d.idle.Len() > 0 {
		d.closeLocked(d.idle.Back().Value.(*File)) // the list holds nothing else
	}
	return f.fd.file, nil
}

// release ends the use of an open file.
func (d *descriptors) release(f *File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.fd.users--; f.fd.users > 0 {
		return
	}
	for _, old := range f.fd.retired {
		_ = old.Close()
	}
	d.open -= len(f.fd.retired)
	f.fd.retired = nil
	if f.fd.file == nil {
		return
	}
	f.fd.element = d.idle.PushFront(f)
	if d.closed || d.open > maxOpen {
		d.closeLocked(f)
	}
}

// retire closes the open file of a File, or has it closed when it has no users any more.
func (d *descriptors) retire(f *File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case f.fd.file == nil:
	case f.fd.users == 0:
		d.closeLocked(f)
	default:
		f.fd.retired = append(f.fd.retired, f.fd.file)
		f.fd.file = nil
	}
}

// closeLocked closes the open file of a File without users.
func (d *descriptors) closeLocked(f *File) {
	if f.fd.element != nil {
		d.idle.Remove(f.fd.element)
		f.fd.element = nil
	}
	_ = f.fd.file.Close()
	f.fd.file = nil
	d.open--
}

func (d *descriptors) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for d.idle.Len() > 0 {
		d.closeLocked(d.idle.Back().Value.(*File)) // the list holds nothing else
	}
}

func (d *descriptors) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}
