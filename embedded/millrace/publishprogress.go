package main

import (
	"fmt"
	"io"
	"time"

	"millrace/edge/admin"
	"millrace/embedded/publish"
)

// progress tells how far a publish is: on a terminal by one line that changes, else by a line for each phase. Its
// methods are for one goroutine at a time.
type progress struct {
	to    io.Writer // the screen
	raw   io.Writer // the terminal; nil if there is none
	phase publish.Phase
	last  time.Time // when the line changed
	shown bool
}

func newProgress(to io.Writer) *progress {
	p := &progress{to: to}
	if s, ok := to.(*screen); ok && terminal(to) {
		p.raw = s.w
	}
	return p
}

// progressEvery is how often the line changes at most.
const progressEvery = 100 * time.Millisecond

// tell shows what happens.
func (p *progress) tell(now publish.Progress) {
	text, lasting := p.text(now)
	begins := p.phase != now.Phase
	p.phase = now.Phase
	switch {
	case p.raw == nil && (begins || lasting):
		fmt.Fprintln(p.to, text)
	case p.raw == nil:
	case lasting:
		p.end()
		fmt.Fprintln(p.to, text)
	case begins || now.Done == now.All || time.Since(p.last) >= progressEvery:
		p.last, p.shown = time.Now(), true
		fmt.Fprintf(p.raw, "\r\x1b[K%s", escapeControls([]byte(text)))
	}
}

// text returns what to show, and whether it should stay.
func (p *progress) text(now publish.Progress) (text string, lasting bool) {
	all := publish.ShowBytes(now.All)
	if p.raw != nil && now.All > 0 {
		all = fmt.Sprintf("%3d %% of %s", now.Done*100/now.All, all)
	}
	switch now.Phase {
	case publish.Encoding:
		return "compressing " + all, false
	case publish.Sending:
		return "sending " + all, false
	case publish.Retrying:
		return fmt.Sprintf("trying again: %v", now.Err), true
	case publish.Waiting:
		if now.Node != nil && p.raw != nil {
			return fmt.Sprintf("waiting for the nodes: %s is %s", admin.Show(now.Node.Node), now.Node.State), false
		}
	}
	return "waiting for the nodes", false
}

// end removes the line.
func (p *progress) end() {
	if p.shown {
		p.shown = false
		_, _ = io.WriteString(p.raw, "\r\x1b[K") // only the looks of a terminal
	}
}
