package edgetest

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
)

// Fields makes a header of names and values in turn.
func Fields(pairs ...string) mesh.Header {
	var h mesh.Header
	for pair := range slices.Chunk(pairs, 2) {
		h.Add(pair[0], pair[1])
	}
	return h
}

// Do sends a request with the default client, with header fields in turn, and reads the whole response.
func (r *Rig) Do(tb testing.TB, method, path, body string, header ...string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, r.URL+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range Fields(header...) {
		req.Header.Add(f.Name, f.Value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp, string(b)
}

// Problem is the body of a generated error (RFC 9457).
type Problem struct {
	Type, Title, Detail, Code string
	Status                    int
	RequestID                 string `json:"request_id"`
}

// Client is one that keeps nothing from other tests.
func Client(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	t.Cleanup(c.CloseIdleConnections)
	return c
}
