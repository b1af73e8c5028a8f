package front

// frames tracks where the frames of a WebSocket end (RFC 6455 §5.2) in bytes that are forwarded unchanged.
type frames struct {
	head [14]byte // of the current frame, as far as it has come
	have int      // bytes in head
	left uint64   // bytes of the current frame's payload that are still to come
}

// between reports whether the bytes so far end with a whole frame.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// follow takes the next bytes into account.
func (f *frames) follow(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		f.begin()
	}
}

// begin starts the payload of the current frame, if its head is complete.
func (f *frames) begin() {
	if f.have < 2 {
		return
	}
	size, need := uint64(f.head[1]&0x7f), 2
	extended := 0
	switch size {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	need += extended
	if f.head[1]&0x80 != 0 {
		need += 4
	}
	if f.have < need {
		return
	}
	if extended > 0 {
		size = 0
		for _, c := range f.head[2 : 2+extended] {
			size = size<<8 | uint64(c)
		}
	}
	f.have, f.left = 0, size
}
