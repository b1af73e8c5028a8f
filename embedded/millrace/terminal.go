package main

import (
	"fmt"
	"io"
	"os"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// console has the output streams of a command. Everything written to them passes a screen.
type console struct {
	stdout, stderr io.Writer
}

// screen is a stream that may end on a terminal. Text from outside is quoted where it is printed; the screen is a
// second line of defence. It passes no character that a terminal would execute, or that changes the order of others.
// JSON stays equivalent JSON.
type screen struct{ w io.Writer }

// newScreen wraps a stream, unless it is a screen already.
func newScreen(w io.Writer) io.Writer {
	if s, ok := w.(*screen); ok {
		return s
	}
	return &screen{w}
}

// Write writes the text, escaped, with one write.
func (s *screen) Write(p []byte) (int, error) {
	if _, err := s.w.Write(escapeControls(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escapeControls escapes what a terminal would execute as JSON does: \u001b. Bytes that aren't UTF-8 become \x9b. If
// there is nothing to escape, it returns p itself.
func escapeControls(p []byte) []byte {
	var out []byte // nil until something was escaped
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r >= ' ' && r < 0x7f || r == '\n' || r == '\t' ||
			(r > 0x9f && !isControl(r) && (r != utf8.RuneError || n > 1)) {
			if out != nil {
				out = append(out, p[i:i+n]...)
			}
			i += n
			continue
		}
		if out == nil {
			out = append(make([]byte, 0, len(p)+32), p[:i]...)
		}
		out = appendEscaped(out, p[i:i+n], r)
		i += n
	}
	if out == nil {
		return p
	}
	return out
}

// isControl reports whether a terminal or a browser acts on the character instead of showing it: controls, changes of
// direction, invisible joiners and separators.
func isControl(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func appendEscaped(out, raw []byte, r rune) []byte {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Appendf(out, `\x%02x`, raw[0])
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return fmt.Appendf(out, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

// terminal reports whether the stream is a terminal.
func terminal(w io.Writer) bool {
	if s, ok := w.(*screen); ok {
		w = s.w
	}
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// style is an escape sequence that sets a color.
type style string

const (
	plain  style = ""
	green  style = "\x1b[32m"
	yellow style = "\x1b[33m"
	red    style = "\x1b[31m"
)

// printLine prints a line. On a terminal, the text between before and after has the style.
func printLine(w io.Writer, before string, s style, text, after string) error {
	line := append(escapeControls([]byte(before)), escapeControls([]byte(text))...)
	if s != plain && terminal(w) && os.Getenv("NO_COLOR") == "" {
		line = append(escapeControls([]byte(before)), s...)
		line = append(append(line, escapeControls([]byte(text))...), "\x1b[0m"...)
	}
	line = append(append(line, escapeControls([]byte(after))...), '\n')
	if s, ok := w.(*screen); ok {
		w = s.w
	}
	_, err := w.Write(line)
	return err
}
