package config

import (
	"bytes"
	"unicode/utf8"
)

// checkBytes checks the bytes of a file, and replaces what YAML doesn't accept: the byte order mark, and tabs that
// indent JSON. Positions don't change. It returns nil after a mistake.
func checkBytes(r *report, data []byte) []byte {
	start := position{1, 1}
	switch {
	case len(data) > MaxFile:
		r.add(start, nil, "the file has more than %d bytes: a configuration has at most that", MaxFile)
		return nil
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		r.add(start, nil, "the file is UTF-16: save it as UTF-8")
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at := invalidByte(data); at >= 0 {
		r.add(positionOf(data, at), nil, "byte 0x%02x can't be in a configuration: save it as UTF-8 text", data[at])
		return nil
	}
	if text := bytes.TrimLeft(data, " \t\r\n"); len(text) > 0 && text[0] == '{' {
		data = blankTabs(data)
	}
	return data
}

// invalidByte returns the index of the first byte that isn't UTF-8 text, or -1.
func invalidByte(data []byte) int {
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		if (c == utf8.RuneError && n == 1) || (c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == 0x7f {
			return i
		}
		i += n
	}
	return -1
}

func positionOf(data []byte, at int) position {
	before := data[:at]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return position{line: bytes.Count(before, []byte("\n")) + 1, col: utf8.RuneCount(line) + 1}
}

// blankTabs replaces tabs outside quotes by spaces.
func blankTabs(data []byte) []byte {
	out := bytes.Clone(data)
	var quote byte
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case quote == '"' && c == '\\':
			i++
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '\t':
			out[i] = ' '
		}
	}
	return out
}
