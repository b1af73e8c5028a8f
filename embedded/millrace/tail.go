package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/node"
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
	return printEvent(w, line, "")
}

// event is what a tail brings: a response, or, with Limit, a request that was one too many.
type event struct {
	edge.Event

	Limit  string `json:"limit"`
	Shadow bool   `json:"shadow"`
}

// printEvent prints an event as a line for people. only is the address of the only target that upstreams have; empty if
// there may be several. The refusal of a request isn't printed by itself, since its response tells of it.
func printEvent(w io.Writer, line []byte, only string) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	before := e.Time.Local().Format("15:04:05.000") + "  "
	if e.Limit != "" {
		return e.printLimit(w, before)
	}
	after := fmt.Sprintf("  %-6s %s  %.1f ms  ", admin.Show(e.Method), show(e.Host+e.Path+e.Query), e.DurationMS)
	if e.Cache != "" {
		after += "cache " + admin.Show(e.Cache) + "  "
	}
	after += admin.Show(e.Route) + became(&e.Event, only)
	return printLine(w, before, paint(e.Status), strconv.Itoa(e.Status), after)
}

// printLimit prints that a request was one too many, unless its response tells so. That of a call of a gather may not.
func (e *event) printLimit(w io.Writer, before string) error {
	became, ofCall := "refused", strings.Contains(e.Route, ".") // ROUTE.CALL: names have no dot
	if e.Shadow {
		became = "let pass, since it is a shadow"
	} else if !ofCall {
		return nil
	}
	return printLine(w, before, yellow, "lim", fmt.Sprintf("  %-6s %s  over limit %s, %s  %s  from %s",
		admin.Show(e.Method), show(e.Path), admin.Show(e.Limit), became, admin.Show(e.Route), admin.Show(e.Client)))
}

// show quotes what a client asked for in any case, since it may hold anything.
func show(s string) string { return strconv.Quote(s) }

// became says where a request went, and who answered or failed it there, or which limit it was beyond.
func became(e *edge.Event, only string) string {
	target, member := cmp.Or(e.Target, "nowhere"), e.Member
	switch {
	case e.OverLimit != "":
		return ": over limit " + admin.Show(e.OverLimit) + ", from " + admin.Show(e.Client)
	case member == "" && strings.HasPrefix(target, "upstream:") && wasSent(e.Error):
		member = only
	}
	if member != "" {
		return " → " + admin.Show(target) + " (" + admin.Show(member) + ")"
	}
	return " → " + admin.Show(target)
}

// wasSent reports whether a request that ended so has been sent to a target of its upstream.
func wasSent(code node.Code) bool {
	return code == node.CodeUpstream || code == node.CodeBadReply || code == node.CodeTimeout
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
