package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"millrace/edge"
	"millrace/edge/admin"
)

type tailCmd struct {
	adminFlags
	JSON bool `help:"Print each event as JSON."`
}

// Run prints one line a response, of every node of the mesh, until a signal comes. Queries are printed as clients sent
// them, secrets in them too: they are the operator's.
func (c *tailCmd) Run(ctx context.Context, out console) error {
	resp, err := c.call(ctx, out, "GET", "/v1/tail", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := c.print(out.stdout, lines.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil { // the signal is how one ends it
		return nil
	}
	return fmt.Errorf("%w: the stream of events ended", errUnreachable)
}

func (c *tailCmd) print(w io.Writer, line []byte) error {
	if c.JSON {
		_, err := fmt.Fprintf(w, "%s\n", line)
		return err //nolint:wrapcheck // stdout is closed
	}
	return printEvent(w, line)
}

// event is what a tail brings: a response, or, with Limit, a request that was one too many.
type event struct {
	edge.Event

	Limit  string `json:"limit"`
	Shadow bool   `json:"shadow"`
}

// printEvent prints an event as a line for people.
func printEvent(w io.Writer, line []byte) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	before := e.Time.Local().Format("15:04:05.000") + "  "
	if e.Limit != "" {
		became := "refused"
		if e.Shadow {
			became = "let pass, since it is a shadow"
		}
		return printLine(w, before, yellow, "lim", fmt.Sprintf("  %-6s %s  over limit %s, %s  %s  from %s",
			admin.Show(e.Method), show(e.Path), admin.Show(e.Limit), became, admin.Show(e.Route), admin.Show(e.Client)))
	}
	after := fmt.Sprintf("  %-6s %s  %.1f ms  ", admin.Show(e.Method), show(e.Host+e.Path+e.Query), e.DurationMS)
	if e.Cache != "" {
		after += "cache " + admin.Show(e.Cache) + "  "
	}
	after += admin.Show(e.Route) + " → " + goal(&e.Event)
	return printLine(w, before, paint(e.Status), strconv.Itoa(e.Status), after)
}

// show quotes what a client asked for in any case, since it may hold anything.
func show(s string) string { return strconv.Quote(s) }

// goal says where a request went, and who answered it there.
func goal(e *edge.Event) string {
	target := e.Target
	if target == "" {
		target = "nowhere"
	}
	if e.Member != "" {
		return admin.Show(target) + " (" + admin.Show(e.Member) + ")"
	}
	return admin.Show(target)
}

func paint(status int) style {
	switch {
	case status >= 500:
		return red
	case status >= 400:
		return yellow
	default:
		return green
	}
}
