package edge_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// sample is one line of testdata/requests.jsonl: bytes to send, and what must become of them.
//
// Verdicts: A must be accepted, R must be refused, R* must be refused or cleaned, r should be refused, I is open.
type sample struct {
	ID          string
	Verdict     string
	Clause      string
	MaxRequests int `json:"max_requests"`
	Parts       [][2]any
	parts       []part
}

// part is sent at once; then comes a pause.
type part struct {
	bytes []byte
	pause time.Duration
}

func corpus(tb testing.TB) []sample {
	tb.Helper()
	f, err := os.Open("testdata/requests.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var out []sample
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s sample
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
			s.parts = append(s.parts, part{b, time.Duration(seconds * float64(time.Second))})
		}
		out = append(out, s)
	}
	if err := lines.Err(); err != nil || len(out) < 100 {
		tb.Fatalf("%d samples, %v", len(out), err)
	}
	return out
}
