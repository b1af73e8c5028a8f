package node

import (
	"math"
	"strings"
)

// asciiHint returns the end of an error message about a host with non-ASCII characters: what to write instead (RFC
// 3492, RFC 5890). It returns "" for other hosts.
func asciiHint(host string) string {
	labels := strings.FieldsFunc(strings.ToLower(host), func(c rune) bool { return c == '.' || c == '。' })
	beyond := false
	for i, label := range labels {
		if strings.IndexFunc(label, func(c rune) bool { return c >= 0x80 }) < 0 {
			continue
		}
		encoded, ok := punycode(label)
		if !ok {
			return ""
		}
		labels[i], beyond = "xn--"+encoded, true
	}
	ascii := strings.Join(labels, ".")
	if !beyond || new(Host).UnmarshalText([]byte(ascii)) != nil {
		return ""
	}
	return "; requests have it in ASCII, so write " + ascii
}

// Parameters of punycode (RFC 3492 §5).
const (
	punyBase, punyTMin, punyTMax = 36, 1, 26
	punySkew, punyDamp           = 38, 700
	punyBias, punyStart          = 72, 0x80
)

// punycode encodes a label (RFC 3492 §6.3). It reports false for a label that is too long.
func punycode(label string) (string, bool) {
	runes := []rune(label)
	if len(runes) > 63 { // so that nothing overflows
		return "", false
	}
	var out strings.Builder
	for _, c := range runes {
		if c < punyStart {
			out.WriteRune(c)
		}
	}
	basic := out.Len()
	if basic > 0 {
		out.WriteByte('-')
	}
	delta, bias, n := 0, punyBias, rune(punyStart)
	for handled := basic; handled < len(runes); n++ {
		next := rune(math.MaxInt32)
		for _, c := range runes {
			if c >= n {
				next = min(next, c)
			}
		}
		delta += int(next-n) * (handled + 1)
		n = next
		for _, c := range runes {
			switch {
			case c < n:
				delta++
			case c == n:
				writeDelta(&out, delta, bias)
				bias = adapt(delta, handled+1, handled == basic)
				delta = 0
				handled++
			}
		}
		delta++
	}
	return out.String(), true
}

// writeDelta writes a variable-length integer.
func writeDelta(out *strings.Builder, delta, bias int) {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	for k := punyBase; ; k += punyBase {
		threshold := min(max(k-bias, punyTMin), punyTMax)
		if delta < threshold {
			out.WriteByte(digits[delta])
			return
		}
		out.WriteByte(digits[threshold+(delta-threshold)%(punyBase-threshold)])
		delta = (delta - threshold) / (punyBase - threshold)
	}
}

// adapt returns the bias for the next number (RFC 3492 §6.1).
func adapt(delta, points int, first bool) int {
	if first {
		delta /= punyDamp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > (punyBase-punyTMin)*punyTMax/2; k += punyBase {
		delta /= punyBase - punyTMin
	}
	return k + (punyBase-punyTMin+1)*delta/(delta+punySkew)
}
