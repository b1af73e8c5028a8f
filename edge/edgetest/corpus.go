package edgetest

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"
)

//go:embed testdata/requests.jsonl
var requests []byte

// Sample is one line of testdata/requests.jsonl: bytes to send, and what must become of them.
//
// Verdicts: A must be accepted, R must be refused, R* must be refused or cleaned, r should be refused, I is open.
type Sample struct {
	ID          string
	Verdict     string
	Clause      string
	MaxRequests int    `json:"max_requests"`
	Parts       []Part `json:"-"`
}

// Part is sent at once; then comes a pause.
type Part struct {
	Bytes []byte
	Pause time.Duration
}

// Corpus gives the samples.
func Corpus(tb testing.TB) []Sample {
	tb.Helper()
	var out []Sample
	lines := bufio.NewScanner(bytes.NewReader(requests))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s struct {
			Sample
			Parts [][2]any
		}
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			tb.Fatal(err)
		}
		for _, p := range s.Parts {
			text, _ := p[0].(string)
			seconds, _ := p[1].(float64)
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				tb.Fatal(err)
			}
			s.Sample.Parts = append(s.Sample.Parts, Part{b, time.Duration(seconds * float64(time.Second))})
		}
		out = append(out, s.Sample)
	}
	if err := lines.Err(); err != nil || len(out) < 100 {
		tb.Fatalf("%d samples, %v", len(out), err)
	}
	return out
}
