package guard

import (
	"errors"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// filePiece is the largest part of a file that is written at once. The system takes what its buffers hold, mostly less.
const filePiece = 4 << 20

// fileWriter writes parts of files to one TCP connection with sendfile(2). The zero value is ready for open.
type fileWriter struct {
	raw  syscall.RawConn           // nil before the first file
	step func(socket uintptr) bool // write, as a value that is made once

	head   []byte // what is left of it
	file   int    // descriptor
	offset int64
	size   int // bytes of the file that the next write may write

	headed bool  // this write has written bytes of the head
	wrote  int64 // bytes of the file that it has written
	err    error
}

// open makes the writer ready for a connection. It reports whether files can be sent there.
func (w *fileWriter) open(conn net.Conn) bool {
	if w.raw != nil {
		return true
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	w.raw, w.step = raw, w.write
	return true
}

// sendFile is SendFile by sendfile(2). It returns what is left of the head and how many bytes of the file are sent. If
// they are fewer than length and err is nil, the rest must be sent another way.
func (c *Conn) sendFile(head []byte, f *os.File, offset, length int64) (left []byte, done int64, err error) {
	w := &c.files
	w.head, w.file, w.offset = head, int(f.Fd()), offset
	defer func() { w.head = nil }()
	defer runtime.KeepAlive(f)
	for done < length {
		w.size = int(min(length-done, filePiece))
		if c.streaming.slow {
			w.size = min(w.size, slowPiece)
		}
		n, err := c.writeFile()
		switch done += n; {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
			return w.head, done, nil
		case err != nil:
			return nil, done, err
		}
	}
	return nil, done, nil
}

// writeFile writes once: what is left of the head, and of the file what the system's buffers take. Its deadline follows
// the client's pace, so a client gets one for each part that it takes.
func (c *Conn) writeFile() (n int64, err error) {
	w := &c.files
	w.wrote, w.headed, w.err = 0, false, nil
	begun, head := c.beginWrite(), len(w.head)
	if err = w.raw.Write(w.step); err == nil {
		err = w.err
	}
	if errors.Is(err, ErrFile) {
		return w.wrote, err
	}
	return w.wrote, c.endWrite(begun, w.wrote+int64(head-len(w.head)), err)
}

// write is one attempt to write. It returns false if the connection takes nothing now: it is called again when it does.
func (w *fileWriter) write(socket uintptr) (done bool) {
	for len(w.head) > 0 {
		n, err := unix.SendmsgN(int(socket), w.head, nil, nil, unix.MSG_MORE)
		if err != nil {
			return w.failed(err)
		}
		w.head, w.headed = w.head[n:], true
	}
	for {
		at := w.offset
		n, err := unix.Sendfile(int(socket), w.file, &at, w.size)
		switch {
		case err == unix.EINTR:
		case err == unix.EIO, err == unix.EBADF:
			w.err = fileError(err)
			return true
		case err != nil:
			return w.failed(err)
		case n == 0:
			w.err = fileError(nil)
			return true
		default:
			w.offset, w.wrote = w.offset+int64(n), int64(n)
			return true
		}
	}
}

// failed deals with an error of the system. It reports whether the write is over: it isn't while the connection takes
// nothing.
func (w *fileWriter) failed(err error) bool {
	if errors.Is(err, unix.EAGAIN) {
		return w.headed // so that the head counts, and the next write waits
	}
	if errors.Is(err, unix.EINTR) {
		return true
	}
	w.err = os.NewSyscallError("sendfile", err)
	return true
}
