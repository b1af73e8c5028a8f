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

// console is where a command reads and writes. Whatever is written there passes a screen.
type console struct {
	stdout, stderr io.Writer
}

// screen is a stream that may end on a terminal. What comes from outside is quoted where it is printed; this is the net
// below that: no character that a terminal would obey, or that changes the order of others, passes. JSON stays the same
// JSON.
type screen struct{ w io.Writer }

// newScreen wraps a stream, unless it is one already.
func newScreen(w io.Writer) io.Writer {
	if s, ok := w.(*screen); ok {
		return s
	}
	return &screen{w}
}

// Write passes text on in one piece.
func (s *screen) Write(p []byte) (int, error) {
	if _, err := s.w.Write(harmless(p)); err != nil {
		return 0, err //nolint:wrapcheck // the stream's own
	}
	return len(p), nil
}

// harmless writes what a terminal would obey as JSON would: \u001b. Bytes that aren't UTF-8 become \x9b. Text without
// any is given back as it is.
func harmless(p []byte) []byte {
	var out []byte // nil as long as nothing was changed
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r >= ' ' && r < 0x7f || r == '\n' || r == '\t' ||
			(r > 0x9f && !obeyed(r) && (r != utf8.RuneError || n > 1)) {
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

// obeyed reports whether a terminal or a browser acts on the character instead of showing it: controls, changes of
// direction, invisible joiners and separators.
func obeyed(r rune) bool {
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

// terminal reports whether somebody may look at what is written.
func terminal(w io.Writer) bool {
	if s, ok := w.(*screen); ok {
		w = s.w
	}
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// style is how a terminal shows a text.
type style string

// The styles.
const (
	plain  style = ""
	green  style = "\x1b[32m"
	yellow style = "\x1b[33m"
	red    style = "\x1b[31m"
)

// printLine prints a line, in which the text between before and after has a style if a terminal shows it.
func printLine(w io.Writer, before string, s style, text, after string) error {
	line := append(harmless([]byte(before)), harmless([]byte(text))...)
	if s != plain && terminal(w) && os.Getenv("NO_COLOR") == "" {
		line = append(harmless([]byte(before)), s...)
		line = append(append(line, harmless([]byte(text))...), "\x1b[0m"...)
	}
	line = append(append(line, harmless([]byte(after))...), '\n')
	if s, ok := w.(*screen); ok {
		w = s.w
	}
	_, err := w.Write(line)
	return err //nolint:wrapcheck // the stream's own
}
