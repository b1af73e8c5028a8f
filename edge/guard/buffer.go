package guard

import (
	"bytes"
	"io"
)

// baseBuffer is the size of every connection's buffer: enough for most heads. It isn't counted against the budget.
const baseBuffer = 2 << 10

// buffer holds the bytes that have arrived on a connection and haven't been read yet. It grows within the budget, and
// only for bytes that have arrived.
type buffer struct {
	data    []byte
	r, w    int // data[r:w] is unread
	account *account
}

func (b *buffer) unread() []byte { return b.data[b.r:b.w] }

// skip marks n bytes as read.
func (b *buffer) skip(n int) {
	b.r += n
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
}

// grow makes space for at least one more byte, with at most limit bytes in all. It fails with errFull at the limit, and
// with errBudget if the budget is used up.
func (b *buffer) grow(limit int) error {
	if b.w < len(b.data) {
		return nil
	}
	if b.r > 0 {
		b.w = copy(b.data, b.unread())
		b.r = 0
		return nil
	}
	size := max(2*len(b.data), baseBuffer)
	if len(b.data) >= limit {
		return errFull
	}
	size = min(size, limit)
	if size > baseBuffer && !b.account.take(size-max(len(b.data), baseBuffer)) {
		return errBudget
	}
	grown := make([]byte, size)
	b.w = copy(grown, b.unread())
	b.data = grown
	return nil
}

// fill reads once from src.
func (b *buffer) fill(src io.Reader, limit int) error {
	if err := b.grow(limit); err != nil {
		return err
	}
	n, err := src.Read(b.data[b.w:])
	b.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err // not wrapped: the caller distinguishes timeouts from EOF
}

// shrink returns the memory that a large head needed, once few bytes are unread.
func (b *buffer) shrink() {
	if len(b.data) <= baseBuffer || b.w-b.r > baseBuffer {
		return
	}
	b.account.give(len(b.data) - baseBuffer)
	small := make([]byte, baseBuffer)
	b.w = copy(small, b.unread())
	b.r, b.data = 0, small
}

// bareLF reports whether a line ends in LF alone, which no line of a head or trailer section may.
func bareLF(lines []byte) bool {
	for {
		i := bytes.IndexByte(lines, '\n')
		if i < 0 {
			return false
		}
		if i == 0 || lines[i-1] != '\r' {
			return true
		}
		lines = lines[i+1:]
	}
}
