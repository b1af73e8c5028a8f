package node_test

import (
	"testing"
	"time"

	"millrace/node"
	"millrace/node/nodetest"
)

func TestDuration(t *testing.T) {
	for input, want := range map[string]time.Duration{
		"0s": 0, "300ms": 300 * time.Millisecond, "10s": 10 * time.Second, "1h30m": 90 * time.Minute,
		"1.5s": 1500 * time.Millisecond, "2µs": 2 * time.Microsecond,
	} {
		var d node.Duration
		if err := d.UnmarshalText([]byte(input)); err != nil || d.Std() != want {
			t.Errorf("%q gives %s, %v", input, d.Std(), err)
		}
		text, err := d.MarshalText()
		var again node.Duration
		if err != nil || again.UnmarshalText(text) != nil || again != d {
			t.Errorf("%q is written as %q, %v", input, text, err)
		}
	}
	for input, want := range map[string]string{
		"": "not a duration", "10": "write a number and its unit", "0": "write a number and its unit",
		"-0":   "write a number and its unit",
		"10 s": "not a duration", "1d": "not a duration", "s": "not a duration", "-1s": "is negative",
		"-0s": "is negative", "99999999h": "not a duration",
	} {
		var d node.Duration
		nodetest.WantError(t, input, d.UnmarshalText([]byte(input)), want)
	}
}

func TestSize(t *testing.T) {
	for input, want := range map[string]node.Size{
		"0B": 0, "900B": 900, "1k": 1 << 10, "512KiB": 512 << 10, "512KB": 512 << 10, "1MiB": 1 << 20, "2 mb": 2 << 20,
		"3G": 3 << 30,
	} {
		var s node.Size
		if err := s.UnmarshalText([]byte(input)); err != nil || s != want {
			t.Errorf("%q gives %d, %v", input, s, err)
		}
		text, err := s.MarshalText()
		var again node.Size
		if err != nil || again.UnmarshalText(text) != nil || again != s {
			t.Errorf("%q is written as %q, %v", input, text, err)
		}
	}
	for _, input := range []string{
		"", "1", "B", "KiB", "1T", "1.5MiB", "-1B", "1Bi", "1_000B", "99999999999GiB",
		"9223372036854775808B", "0x1B",
	} {
		var s node.Size
		nodetest.WantError(t, input, s.UnmarshalText([]byte(input)), "is not a size")
	}
}

func TestSizeString(t *testing.T) {
	for size, want := range map[node.Size]string{
		0: "0B", 1: "1B", 1023: "1023B", node.KiB: "1KiB", 1536: "1536B", node.MiB: "1MiB", 3 * node.GiB: "3GiB",
		node.GiB + node.MiB: "1025MiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d is written as %q, want %q", int64(size), got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	for input, want := range map[string]string{
		":8080": "", "127.0.0.1:0": "", "localhost:65535": "", "[::1]:80": "", "0.0.0.0:80": "",
		"": "is not an address", "8080": "is not an address", "localhost": "is not an address",
		"a:": "is not an address", "a:65536": "is not an address",
		"a:-1": "is not an address", "a:http": "is not an address", "::1:80": "is not an address",
		"http://a:80": "is not an address",
		"a b:80":      "is not an address", "a\n:80": "is not an address", "é:80": "is not an address",
	} {
		var a node.Address
		nodetest.WantError(t, input, a.UnmarshalText([]byte(input)), want)
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[node.Address]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "localhost:80": true, ":80": false,
		"0.0.0.0:80": false, "[::]:80": false, "example.com:80": false,
	} {
		if got := address.Loopback(); got != want {
			t.Errorf("%s is loopback: %t", address, got)
		}
	}
}

func TestPrefix(t *testing.T) {
	for input, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "::1": "::1/128",
		"2001:db8::/32": "2001:db8::/32",
	} {
		var p node.Prefix
		if err := p.UnmarshalText([]byte(input)); err != nil || p.String() != want {
			t.Errorf("%q gives %s, %v", input, p, err)
		}
	}
	for _, input := range []string{"", "10.0.0.0/33", "10.0.0", "example.com", "10.0.0.0/", "10.0.0.0-10.0.0.9"} {
		var p node.Prefix
		nodetest.WantError(t, input, p.UnmarshalText([]byte(input)), "is not an address range")
	}
}

// Where a program on this machine connects to, for configured and actual addresses of a listener.
func TestAddressDial(t *testing.T) {
	for in, want := range map[node.Address]string{
		":8080": "127.0.0.1:8080", "0.0.0.0:8080": "127.0.0.1:8080", "[::]:8080": "127.0.0.1:8080",
		"127.0.0.1:1": "127.0.0.1:1", "[::1]:1": "[::1]:1", "localhost:1": "localhost:1", "10.0.0.7:1": "10.0.0.7:1",
	} {
		if got := in.Dial(); got != want {
			t.Errorf("%s is reached at %s, want %s", in, got, want)
		}
	}
}
