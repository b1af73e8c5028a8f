package logs

import (
	"slices"
	"strings"
	"sync"

	"millrace/node"
)

// hidden replaces a secret.
const hidden = "[secret]"

// Secrets are texts that must not be logged. The zero value has none. It is safe for concurrent use.
type Secrets struct {
	mu    sync.RWMutex // guards known
	known []secret
}

// secret is a text, with what to search for.
type secret struct {
	text   string
	least  int      // how many consecutive bytes of it must be hidden
	blocks []string // each part of at least that length contains one of them
}

// Shorter texts aren't treated as secrets, or as parts of one: too much else would be hidden.
const (
	minSecret  = 6
	minDivided = 16 // from this length on, half of a secret is hidden too
)

// Add adds texts to hide from now on. Texts of less than 6 bytes are ignored.
func (s *Secrets) Add(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if len(text) < minSecret || slices.ContainsFunc(s.known, func(k secret) bool { return k.text == text }) {
			continue
		}
		s.known = append(s.known, newSecret(text))
	}
}

// newSecret divides the text into blocks. A part that is at least twice as long as a block, less one byte, contains a
// whole block, wherever it begins.
func newSecret(text string) secret {
	k := secret{text: text, least: len(text)}
	if len(text) >= minDivided {
		k.least = len(text) / 2
	}
	size := (k.least + 1) / 2
	for i := 0; i+size <= len(text); i += size {
		k.blocks = append(k.blocks, text[i:i+size])
	}
	return k
}

// Hide returns the text without secrets, whether plain or percent-encoded. It searches both the text and its decoded
// form, since a percent sign may stand before a secret that begins with two hexadecimal digits.
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

// find returns the parts of a text that show too much of a secret. The caller holds mu.
func (s *Secrets) find(text string) (found []span) {
	for i := range s.known {
		found = s.known[i].find(found, text)
	}
	return found
}

// span is a part of a text: its first byte, and the byte after its end.
type span struct{ from, to int }

// find appends the parts of the text that show too much of the secret.
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

// around extends a found block as far as the text matches the secret. at is the position of the block in the text, in
// that in the secret.
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

// replace replaces the parts, which may overlap, by hidden.
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

// decode decodes percent-encoding and ignores what is malformed. at has the position in the text of each byte of plain;
// it is nil if nothing was encoded.
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
