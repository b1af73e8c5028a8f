package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// A node that may open few files refuses connections, or closes idle ones, when there are too many. Its health endpoint
// keeps answering, and it serves on when the connections are gone.
func TestFewDescriptors(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer app.Close()
	dir := t.TempDir()
	file := writeConfig(t, dir, nodeYAML(t, dir)+embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /*
		    to: upstream:app
		`, "APP", app.URL))
	p := startLimited(t, 160, "run", "-c", file)
	if _, err := post(http.DefaultClient, p.edge); err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(p.edge, "http://")
	var crowd []net.Conn
	open := 0
	for range 400 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	for _, c := range crowd {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		head := make([]byte, 12)
		switch _, err := io.ReadFull(c, head); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			open++
		case err == nil && string(head) != "HTTP/1.1 503":
			t.Errorf("a connection too many got %q", head)
		}
	}
	if open > 80 || open == 0 {
		t.Errorf("%d of 400 connections are open, with 160 descriptors", open)
	}
	if st := p.status(t); st.Connections > 80 {
		t.Errorf("status: %d connections", st.Connections)
	}
	for _, c := range crowd {
		_ = c.Close()
	}
	nodetest.Eventually(t, "the node serves on", func() bool {
		_, err := post(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, p.edge)
		return err == nil
	})
}
