package node

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span written with a unit: 300ms, 10s, 15m, 1h.
type Duration time.Duration

// UnmarshalText parses a duration. A number without a unit is refused.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || text[len(text)-1] < 'A' { // time.ParseDuration accepts 0 without a unit
		return fmt.Errorf("%q is not a duration: %s", text,
			suggestDuration(string(text), "write a number and its unit, such as 300ms, 10s or 15m"))
	}
	if text[0] == '-' {
		return fmt.Errorf("%q is negative", text)
	}
	*d = Duration(v)
	return nil
}

// unitNames are units of time that people write; also in the plural, and after a space.
var unitNames = map[string]time.Duration{
	"ms": time.Millisecond, "msec": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second, "m": time.Minute, "min": time.Minute,
	"minute": time.Minute,
	"h":      time.Hour, "hr": time.Hour, "hour": time.Hour, "d": day, "day": day, "w": 7 * day, "wk": 7 * day,
	"week": 7 * day,
}

// suggestDuration returns how to write a time with such a unit, otherwise the given text.
func suggestDuration(text, otherwise string) string {
	unit := strings.TrimLeft(text, "0123456789.")
	n, err := strconv.ParseFloat(text[:len(text)-len(unit)], 64)
	unit = strings.ToLower(strings.TrimSpace(unit)) // this may change its length
	one, known := unitNames[unit]
	if !known {
		one, known = unitNames[strings.TrimSuffix(unit, "s")]
	}
	if n *= float64(one); err != nil || !known || n <= 0 || n > float64(maxSuggested) {
		return otherwise
	}
	return "write " + shortDuration(time.Duration(n))
}

// maxSuggested is the longest time that suggestDuration suggests; no configuration has longer ones.
const maxSuggested = 100 * 366 * day

// shortDuration formats a duration without the trailing zeros that time.Duration.String adds.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes the duration as UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Std returns the duration as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Size is a number of bytes written with a unit: 512KiB, 1MiB, 900B.
type Size int64

// The units of Size. KB, MB and GB count as the binary units too.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// UnmarshalText parses a size. A number without a unit is refused.
func (s *Size) UnmarshalText(text []byte) error {
	str := strings.TrimSpace(string(text))
	digits := strings.TrimRight(str, "BKMGTikbmgt ")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, known := sizeUnits[strings.ToLower(strings.TrimSpace(str[len(digits):]))]
	if err != nil || !known || n < 0 || n > (1<<62)/int64(unit) {
		return fmt.Errorf("%q is not a size: write a number and its unit, such as 900B, 512KiB or 1MiB", text)
	}
	*s = Size(n) * unit
	return nil
}

var sizeUnits = map[string]Size{
	"b": 1, "k": KiB, "kb": KiB, "kib": KiB, "m": MiB, "mb": MiB, "mib": MiB, "g": GiB, "gb": GiB, "gib": GiB,
}

// String formats the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		name string
		size Size
	}{{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}} {
		if s >= u.size && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText writes the size as UnmarshalText reads it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Address is a host and port to listen on: 127.0.0.1:8080, :8080, localhost:0.
type Address string

// UnmarshalText checks that the text is host:port with a port from 0 to 65535.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, ok := cutLast(string(text), ':')
	n, err := strconv.ParseUint(port, 10, 16)
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if !ok || err != nil || n > 65535 || strings.IndexFunc(host, notInHost) >= 0 ||
		(strings.Contains(host, ":") && !bracketed) {
		return fmt.Errorf("%q is not an address: write host:port, such as 127.0.0.1:8080 or :8080%s", text,
			asciiHint(host))
	}
	*a = Address(text)
	return nil
}

func notInHost(c rune) bool { return c <= ' ' || c >= 0x7f || c == '/' }

// Loopback reports whether the address can only be reached from this machine.
func (a Address) Loopback() bool {
	host, _, _ := cutLast(string(a), ':')
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Dial returns the address that a program on this machine connects to. A listener on all interfaces is reached through
// loopback.
func (a Address) Dial() string {
	host, port, err := net.SplitHostPort(string(a))
	if err != nil {
		return string(a)
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return string(a)
}

// endpoints returns where the address leads to, in one spelling each: localhost is on both loopback addresses. An
// address that other machines can't connect to has none.
func (a Address) endpoints() []string {
	host, port := a.split()
	hosts := []string{strings.ToLower(host)}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Unmap().IsUnspecified() {
			return nil
		}
		hosts[0] = ip.Unmap().String()
	}
	if hosts[0] == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	if host == "" || port == 0 {
		return nil
	}
	for i := range hosts {
		hosts[i] = net.JoinHostPort(hosts[i], strconv.Itoa(int(port)))
	}
	return hosts
}

// Prefix is a range of IP addresses, such as 10.0.0.0/8, or a single address, such as 10.1.2.3 or ::1.
type Prefix struct{ netip.Prefix }

// UnmarshalText parses a CIDR range or a single address.
func (p *Prefix) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil {
		p.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	v, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%q is not an address range: write an IP address or a CIDR, such as 10.0.0.0/8", text)
	}
	p.Prefix = v.Masked()
	return nil
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
