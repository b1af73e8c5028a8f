package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/node"
)

// Every sample goes through edge, mesh and member to an upstream of real sockets, which counts what it understood. Each
// sample comes from an address of its own, by which its requests are told from those of another that reach the upstream
// late.
func TestCorpusIsAcceptedOrRefusedAsItMustBe(t *testing.T) {
	var mu sync.Mutex
	understood := map[string]int{} // by the client's address
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		understood[r.Header.Get("X-Forwarded-For")]++
		mu.Unlock()
		if strings.Contains(r.URL.Path, "smuggled") {
			t.Error("a smuggled request arrived")
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(app.Close)
	all := edgetest.ProxyRoute("/*")
	all.EncodedSlash = node.EncodedSlashKeep
	all.OnDisconnect = node.OnDisconnectFinish // play ends its sending side
	r := edgetest.Start(t, edgetest.Routed(all))
	r.Upstream(t, app.URL)
	check := func(s edgetest.Sample, from string) {
		mu.Lock()
		defer mu.Unlock()
		if n := understood[from]; n > s.MaxRequests {
			t.Errorf("%s: the upstream understood %d requests, at most %d are there", s.ID, n, s.MaxRequests)
		}
	}
	samples := edgetest.Corpus(t)
	client := func(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250, i%250+1) }
	for i, s := range samples {
		t.Run(s.ID, func(t *testing.T) {
			statuses := play(t, r, s, client(i))
			check(s, client(i))
			refused := len(statuses) == 0 || statuses[0] >= 400
			switch s.Verdict {
			case "A":
				if len(statuses) != s.MaxRequests || slices.ContainsFunc(statuses, func(status int) bool {
					return status != 200
				}) {
					t.Errorf("must be accepted, got %d", statuses)
				}
			case "R", "R*", "r": // nothing is cleaned here: what needs it is refused
				if !refused {
					t.Errorf("must be refused (%s), got %d", s.Clause, statuses)
				}
			}
		})
	}
	app.Close() // waits for requests that came late
	reached := 0
	for i, s := range samples {
		check(s, client(i))
		if understood[client(i)] > 0 {
			reached++
		}
	}
	if reached != len(understood) { // a smuggled request would say so itself, or nothing
		t.Errorf("%d samples reached the upstream, but it saw requests of %d addresses", reached, len(understood))
	}
	if reached < len(samples)/4 {
		t.Errorf("only %d of %d samples reached the upstream", reached, len(samples))
	}
}

// play sends a sample from that address, ends the sending side, and gives the final statuses of all responses that
// came.
func play(t *testing.T, r *edgetest.Rig, s edgetest.Sample, from string) (statuses []int) {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	for _, p := range s.Parts {
		_, _ = c.Write(p.Bytes) // fails once the edge has refused
		<-time.After(p.Pause)   // the sample says how long
	}
	_ = c.(*net.TCPConn).CloseWrite()
	in := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error("a response is cut off")
		}
		if resp.StatusCode >= 200 {
			statuses = append(statuses, resp.StatusCode)
		}
	}
}
