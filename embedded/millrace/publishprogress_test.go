package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"millrace/embedded/publish"
)

// Elsewhere than on a terminal there is a line for each phase and each thing that went wrong, and no control character.
func TestProgressInLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(newScreen(&out))
	for done := range int64(100) {
		p.tell(publish.Progress{Phase: publish.Encoding, Done: done, All: 2048})
	}
	p.tell(publish.Progress{Phase: publish.Sending, Done: 1, All: 3 << 20})
	p.tell(publish.Progress{Phase: publish.Retrying, Err: errors.New("the \x1b[31mnode is away")})
	p.tell(publish.Progress{Phase: publish.Sending, Done: 2, All: 3 << 20})
	p.tell(publish.Progress{Phase: publish.Waiting, Node: &publish.NodeState{Node: "n1", State: "bringing"}})
	p.tell(publish.Progress{Phase: publish.Waiting, Node: &publish.NodeState{Node: "n1", State: "ready"}})
	p.end()
	want := strings.Join([]string{
		"compressing 2 KiB", "sending 3 MiB", `trying again: the \u001b[31mnode is away`, "sending 3 MiB",
		"waiting for the nodes", "",
	}, "\n")
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// On a terminal one line changes, and is gone in the end.
func TestProgressOnTerminal(t *testing.T) {
	var out bytes.Buffer
	p := &progress{to: newScreen(&out), raw: &out}
	p.tell(publish.Progress{Phase: publish.Sending, Done: 1 << 20, All: 4 << 20})
	p.tell(publish.Progress{Phase: publish.Sending, Done: 2 << 20, All: 4 << 20}) // too soon
	p.tell(publish.Progress{Phase: publish.Sending, Done: 4 << 20, All: 4 << 20})
	p.tell(publish.Progress{Phase: publish.Waiting, Node: &publish.NodeState{Node: "n\x1b", State: "ready"}})
	p.end()
	p.end()
	const gone = "\r\x1b[K"
	want := gone + "sending  25 % of 4 MiB" + gone + "sending 100 % of 4 MiB" + gone +
		`waiting for the nodes: "n\x1b" is ready` + gone
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
