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

// Run prints a line for each response of any node of the mesh, until a signal arrives. Queries are printed as clients
// sent them, with any secrets in them: they are for the operator.
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
	if ctx.Err() != nil { // ended by a signal
		return nil
	}
	return fmt.Errorf("%w: the stream of events ended", errUnreachable)
}

func (c *tailCmd) print(w io.Writer, line []byte) error {
	if c.JSON {
		_, err := fmt.Fprintf(w, "%s\n", line)
		return err
	}
	return printEvent(w, line, "")
}

// event is an element of a tail: a response or, if Limit is set, a request that was over a limit.
type event struct {
	edge.Event

	Limit  string `json:"limit"`
	Shadow bool   `json:"shadow"`
}

// printEvent prints an event as a line for people. only is the address of the only target of all upstreams; "" if there
// may be several. A refused request isn't printed by itself, since its response says so.
func printEvent(w io.Writer, line []byte, only string) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	before := e.Time.Local().Format("15:04:05.000") + "  "
	if e.Limit != "" {
		return e.printLimit(w, before)
	}
	after := fmt.Sprintf("  %-6s %s  %.1f ms  ", admin.Show(e.Method), quoted(e.Host+e.Path+e.Query), e.DurationMS)
	if e.Cache != "" {
		after += "cache " + admin.Show(e.Cache) + "  "
	}
	after += admin.Show(e.Route) + destination(&e.Event, only)
	return printLine(w, before, statusStyle(e.Status), strconv.Itoa(e.Status), after)
}

// printLimit prints that a request was over a limit. If it was refused, its response says so, and nothing is printed;
// but the response of a gather may not say so of its calls.
func (e *event) printLimit(w io.Writer, before string) error {
	became, ofCall := "refused", strings.Contains(e.Route, ".") // ROUTE.CALL: the names have no dots
	if e.Shadow {
		became = "let pass, since it is a shadow"
	} else if !ofCall {
		return nil
	}
	return printLine(w, before, yellow, "lim", fmt.Sprintf("  %-6s %s  over limit %s, %s  %s  from %s",
		admin.Show(e.Method), quoted(e.Path), admin.Show(e.Limit), became, admin.Show(e.Route), admin.Show(e.Client)))
}

// quoted always quotes what a client asked for, since it may contain anything.
func quoted(s string) string { return strconv.Quote(s) }

// destination says where a request went and who answered it or failed there, or which limit it was over.
func destination(e *edge.Event, only string) string {
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

// wasSent reports whether a request with this error was sent to a target of its upstream.
func wasSent(code node.Code) bool {
	return code == node.CodeUpstream || code == node.CodeBadReply || code == node.CodeTimeout
}

func statusStyle(status int) style {
	switch {
	case status >= 500:
		return red
	case status >= 400:
		return yellow
	default:
		return green
	}
}
