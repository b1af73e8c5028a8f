package logs

import (
	"slices"
	"strings"
	"sync"

	"millrace/node"
)

// hidden stands in the place of a secret.
const hidden = "[secret]"

// Secrets are texts that must not be shown. The zero value knows none; it is safe for concurrent use.
type Secrets struct {
	mu    sync.RWMutex // guards known
	known []secret
}

// secret is a text and what is looked for.
type secret struct {
	text   string
	least  int      // bytes in a row that must not be shown
	blocks []string // one of which every part of that length holds
}

// Bounds of what is taken for a secret, and for a part of one. A shorter text would hide too much of what it isn't.
const (
	shortest = 6
	divided  = 16 // from this length on half of it is a secret too
)

// Add lets texts be hidden from now on. Empty and very short ones aren't.
func (s *Secrets) Add(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if len(text) < shortest || slices.ContainsFunc(s.known, func(k secret) bool { return k.text == text }) {
			continue
		}
		s.known = append(s.known, newSecret(text))
	}
}

// newSecret cuts the text into blocks. A part of at least twice a block, less one byte, holds a block whole, wherever
// it begins.
func newSecret(text string) secret {
	k := secret{text: text, least: len(text)}
	if len(text) >= divided {
		k.least = len(text) / 2
	}
	size := (k.least + 1) / 2
	for i := 0; i+size <= len(text); i += size {
		k.blocks = append(k.blocks, text[i:i+size])
	}
	return k
}

// Hide gives the text without secrets: as they are, or percent-encoded. It is looked through in both ways, since a per
// cent sign may stand before a secret that begins with two digits.
func (s *Secrets) Hide(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := s.find(text)
	if plain, at := decode(text); at != nil {
		for _, part := range s.find(plain) {
			found = append(found, span{at[part.from], at[part.to]})
		}
	}
	if len(found) == 0 {
		return text
	}
	return replace(text, found)
}

// find gives the parts of a text that show too much of some secret. The caller holds mu.
func (s *Secrets) find(text string) (found []span) {
	for i := range s.known {
		found = s.known[i].find(found, text)
	}
	return found
}

// span is a part of a text: from its first byte to before its end.
type span struct{ from, to int }

// find adds the parts of the text that show too much of the secret.
func (k *secret) find(found []span, text string) []span {
	for b, block := range k.blocks {
		for from := 0; from < len(text); {
			i := strings.Index(text[from:], block)
			if i < 0 {
				break
			}
			here := k.around(text, from+i, b*len(block), len(block))
			if here.to-here.from >= k.least {
				found = append(found, here)
			}
			from += i + 1
		}
	}
	return found
}

// around is as much of the secret as stands around a block of it: at is where the block is in the text, in where it is
// in the secret.
func (k *secret) around(text string, at, in, length int) span {
	s := span{at, at + length}
	for n := in; n > 0 && s.from > 0 && text[s.from-1] == k.text[n-1]; n-- {
		s.from--
	}
	for n := in + length; n < len(k.text) && s.to < len(text) && text[s.to] == k.text[n]; n++ {
		s.to++
	}
	return s
}

// replace puts hidden in the place of the parts, which may overlap.
func replace(text string, found []span) string {
	slices.SortFunc(found, func(a, b span) int { return a.from - b.from })
	var out strings.Builder
	done := 0
	for i := 0; i < len(found); i++ {
		part := found[i]
		for i+1 < len(found) && found[i+1].from <= part.to {
			i++
			part.to = max(part.to, found[i].to)
		}
		out.WriteString(text[done:part.from])
		out.WriteString(hidden)
		done = part.to
	}
	out.WriteString(text[done:])
	return out.String()
}

// decode undoes percent-encoding, valid or not in its place, and tells where each byte of the result stands in the
// text. nil means that nothing was encoded.
func decode(text string) (plain string, at []int) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	out := make([]byte, 0, len(text))
	at = make([]int, 0, len(text)+1)
	for i := 0; i < len(text); i++ {
		at = append(at, i)
		c := text[i]
		if c == '%' && i+2 < len(text) {
			high, ok1 := node.HexDigit(text[i+1])
			low, ok2 := node.HexDigit(text[i+2])
			if ok1 && ok2 {
				c = high<<4 | low
				i += 2
			}
		}
		out = append(out, c)
	}
	return string(out), append(at, len(text))
}
