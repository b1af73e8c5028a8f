package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
)

type explainCmd struct {
	readFlags
	Method string   `short:"X" default:"GET" help:"Method of the request."`
	Header []string `short:"H" placeholder:"NAME: VALUE" help:"A header field of the request."`
	URL    string   `arg:"" help:"Path or URL, such as /api/users?page=2."`
}

// Run prints which route the request takes and where it goes.
func (c *explainCmd) Run(ctx context.Context, out console) error {
	q := url.Values{"method": {c.Method}, "url": {c.URL}, "header": c.Header}
	var e admin.Explanation
	if printed, err := c.read(ctx, out, "/v1/explain?"+q.Encode(), &e); printed || err != nil {
		return err
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "request\t%s %s%s\n", e.Method, e.Host, e.Path)
	if e.Refusal != "" {
		fmt.Fprintf(w, "answer\t%d, %s\n", e.Status, e.Refusal)
	} else {
		fmt.Fprintf(w, "route\t%s (%s)\ntarget\t%s\n", e.Route, e.Pattern, e.Target)
		if e.Subject != "" {
			fmt.Fprintf(w, "subject\t%s%s\n", e.Subject, inMemory(e.Carrier))
		}
		if e.Asks != "" {
			fmt.Fprintf(w, "asks for\t%s\n", e.Asks)
		}
		for _, c := range e.Calls {
			fmt.Fprintf(w, "call %s\t%s\n", c.Name, aboutCall(c))
		}
		for _, u := range e.Upstreams {
			fmt.Fprintf(w, "upstream %s\t%d retries, %d denied, %d hedges, %d waiting, %d refused\n", u.Name, u.Retries, u.Unpaid, u.Hedges, u.Waiting, u.Refused)
			for _, t := range u.Targets {
				fmt.Fprintf(w, "\t%s\n", aboutTarget(t))
			}
			if u.Next != "" {
				fmt.Fprintf(w, "\tnext: %s\n", u.Next)
			}
		}
		fmt.Fprintf(w, "timeout\t%s\nmax body\t%s\n", aboutTimeout(e.Bound), e.MaxBody)
		for _, p := range e.Upgrade {
			fmt.Fprintf(w, "upgrade\t%s\n", p)
		}
	}
	for name, value := range e.Params {
		fmt.Fprintf(w, "{%s}\t%s\n", name, value)
	}
	for _, l := range e.Limits {
		fmt.Fprintf(w, "limit\t%s: %s, by %s\n", l.Name, l.Text, l.Key)
	}
	if e.Cache != nil {
		explainCache(w, e.Cache)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print explanation: %w", err)
	}
	return nil
}

// inMemory tells that NATS is left out.
func inMemory(carrier string) string {
	if carrier == "memory" {
		return ", in memory"
	}
	return ""
}

// aboutTimeout tells which limit counts, and whose it is.
func aboutTimeout(b edge.Bound) string {
	out := b.Timeout + ", by " + b.TimeoutOf
	if b.RouteTimeout != "" {
		out += ", which is shorter than the route's " + b.RouteTimeout
	}
	return out
}

// aboutCall tells of a call of a gather in a line.
func aboutCall(c edge.CallInfo) string {
	out := fmt.Sprintf("%s  %s  %s%s", c.Target, c.Path, c.Subject, inMemory(c.Carrier))
	if len(c.After) > 0 {
		out += ", after " + strings.Join(c.After, ", ")
	}
	if c.TimeoutOf != "route" && c.TimeoutOf != "edge.timeout" { // else it is that of the whole
		out += ", within " + aboutTimeout(c.Bound)
	}
	if c.Cached {
		out += ", cached"
	}
	if len(c.Limits) > 0 {
		out += ", limited by " + strings.Join(c.Limits, ", ")
	}
	return out
}

// explainCache prints what the cache has, why or why not, and how long.
func explainCache(w io.Writer, c *edge.CacheExplanation) {
	why := ""
	if c.Why != "" {
		why = ": " + c.Why
	}
	fmt.Fprintf(w, "cache\t%s%s\n", c.State, why)
	if c.Key != "" {
		fmt.Fprintf(w, "key\t%s\n", c.Key)
	}
	if c.Vary != "" {
		fmt.Fprintf(w, "varies on\t%s\n", c.Vary)
	}
	if c.Expires != nil {
		fmt.Fprintf(w, "stored\t%d, %d bytes, in the %s, age %s\n", c.Status, c.Bytes, c.In, c.Age)
		fmt.Fprintf(w, "fresh for\t%s, until %s\nkept until\t%s\n", c.Fresh, c.Expires.Local().Format(time.DateTime), c.Gone.Local().Format(time.DateTime))
	}
	if len(c.Tags) > 0 {
		fmt.Fprintf(w, "tags\t%s\n", strings.Join(c.Tags, ", "))
	}
	if c.State != "off" && !c.Leased {
		fmt.Fprintln(w, "\t! this node can't hear of purges: it asks the origin before it serves what is stored")
	}
}
