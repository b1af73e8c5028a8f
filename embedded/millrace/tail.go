package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"millrace/edge"
)

type tailCmd struct {
	adminFlags
	JSON bool `help:"Print each event as JSON."`
}

// Run prints one line a response, of every node of the mesh, until a signal comes.
func (c *tailCmd) Run(ctx context.Context, out console) error {
	resp, err := c.call(ctx, "GET", "/v1/tail", nil)
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
	var e edge.Event
	if c.JSON {
		_, err := fmt.Fprintf(w, "%s\n", line)
		return err //nolint:wrapcheck // stdout is closed
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	status := strconv.Itoa(e.Status)
	if colors(w) {
		status = paint(e.Status) + status + "\x1b[0m"
	}
	_, err := fmt.Fprintf(w, "%s  %s  %-6s %q  %.1f ms  %s → %s\n",
		e.Time.Local().Format("15:04:05.000"), status, e.Method, e.Host+e.Path, e.DurationMS, e.Route, e.Target)
	return err //nolint:wrapcheck // stdout is closed
}

func paint(status int) string {
	switch {
	case status >= 500:
		return "\x1b[31m"
	case status >= 400:
		return "\x1b[33m"
	default:
		return "\x1b[32m"
	}
}
