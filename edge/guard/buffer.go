package guard

import (
	"bytes"
	"io"
)

// baseBuffer is what every connection has: enough for most heads.
const baseBuffer = 2 << 10

// buffer holds what has arrived on a connection and isn't read yet. It grows only for what arrived, by the budget.
type buffer struct {
	data    []byte
	r, w    int // data[r:w] is unread
	account *account
}

func (b *buffer) unread() []byte { return b.data[b.r:b.w] }

// skip takes n bytes as read. An empty buffer begins anew.
func (b *buffer) skip(n int) {
	b.r += n
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
}

// room makes space for at least one more byte, with at most limit bytes in all; errFull and errBudget say why not.
func (b *buffer) room(limit int) error {
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

// fill reads once.
func (b *buffer) fill(src io.Reader, limit int) error {
	if err := b.room(limit); err != nil {
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
	return err //nolint:wrapcheck // the caller tells time-outs from ends
}

// shrink gives up what one large head needed, once little is left in it.
func (b *buffer) shrink() {
	if len(b.data) <= baseBuffer || b.w-b.r > baseBuffer {
		return
	}
	b.account.give(len(b.data) - baseBuffer)
	small := make([]byte, baseBuffer)
	b.w = copy(small, b.unread())
	b.r, b.data = 0, small
}

// bareLF reports whether a line ends in LF alone, which no line of a head or a trailer section may.
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
