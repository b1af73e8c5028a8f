package main

import (
	"context"
	"fmt"
	"net/url"
	"text/tabwriter"

	"millrace/edge"
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
	var e edge.Explanation
	if printed, err := c.read(ctx, out, "/v1/explain?"+q.Encode(), &e); printed || err != nil {
		return err
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "request\t%s %s%s\n", e.Method, e.Host, e.Path)
	if e.Refusal != "" {
		fmt.Fprintf(w, "answer\t%d, %s\n", e.Status, e.Refusal)
	} else {
		fmt.Fprintf(w, "route\t%s (%s)\ntarget\t%s\nsubject\t%s\ntimeout\t%s\nmax body\t%s\n", e.Route, e.Pattern, e.Target, e.Subject, e.Timeout, e.MaxBody)
	}
	for name, value := range e.Params {
		fmt.Fprintf(w, "{%s}\t%s\n", name, value)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print explanation: %w", err)
	}
	return nil
}
