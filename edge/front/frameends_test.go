package front

import (
	"bytes"
	"io"
	"testing"

	"github.com/gobwas/ws"
)

// However a connection's bytes are split into pieces, frames finds the same ends of frames as a reader of whole frames.
func FuzzFrames(f *testing.F) {
	f.Add(ws.MustCompileFrame(ws.NewTextFrame([]byte("hello"))), uint8(1))
	f.Add(ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(bytes.Repeat([]byte("x"), 300)))), uint8(7))
	f.Add(append(ws.MustCompileFrame(ws.NewPingFrame(nil)),
		ws.MustCompileFrame(ws.NewTextFrame(make([]byte, 70_000)))...), uint8(200))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		in := bytes.NewReader(stream)
		whole := 0 // bytes of whole frames
		for {
			h, err := ws.ReadHeader(in)
			if err != nil {
				break
			}
			if n, err := io.CopyN(io.Discard, in, h.Length); err != nil || n != h.Length {
				break
			}
			whole = len(stream) - in.Len()
		}
		var fr frames
		step := int(cut) + 1
		for rest := stream[:whole]; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			fr.follow(rest[:min(step, len(rest))])
		}
		if !fr.between() {
			t.Fatalf("after %d bytes of whole frames: %+v", whole, fr)
		}
		if whole < len(stream) && stream[whole]&0x80 != 0 && len(stream)-whole == 1 {
			if fr.follow(stream[whole:]); fr.between() {
				t.Fatal("the beginning of a frame looks like its end")
			}
		}
	})
}
