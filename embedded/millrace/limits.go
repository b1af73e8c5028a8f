package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/edge/admin"
)

type limitsCmd struct {
	Show  limitsShowCmd  `cmd:"" help:"Tell what a client has left: millrace limits show 203.0.113.7"`
	Reset limitsResetCmd `cmd:"" help:"Give a client its full allowance again."`
}

// limitKey names a client of the limits.
type limitKey struct {
	readFlags
	Limit string `placeholder:"NAME" help:"Only this limit (default: all)."`
	Key   string `arg:"" help:"The client as the limit counts it: an address, a field's value, or all for limits that count every request together."`
}

func (c *limitKey) path() string {
	if c.Limit == "" {
		return "/v1/limits?" + url.Values{"key": {c.Key}}.Encode()
	}
	return "/v1/limits/" + url.PathEscape(c.Limit) + "/" + url.PathEscape(c.Key)
}

const noLimits = "this node has no limits that count such a client"

type limitsShowCmd struct{ limitKey }

// Run prints what is known of the client.
func (c *limitsShowCmd) Run(ctx context.Context, out console) error {
	var list []admin.LimitUsage
	if printed, err := c.read(ctx, out, c.path(), &list); printed || err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(out.stdout, noLimits)
		return nil
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	for _, u := range list {
		resets := ""
		if u.Resets != nil {
			resets = fmt.Sprintf("\tresets %s (in %s)", u.Resets.Local().Format(time.DateTime), time.Until(*u.Resets).Round(time.Second))
		}
		left := u.Max - min(u.Spent, u.Max)
		fmt.Fprintf(w, "%s\t%d of %d spent\t%d left, %d of them held by nodes%s\n", admin.Show(u.Limit),
			u.Spent, u.Max, left, min(u.Held, left), resets)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print limits: %w", err)
	}
	return nil
}

type limitsResetCmd struct{ limitKey }

// Run resets the client.
func (c *limitsResetCmd) Run(ctx context.Context, out console) error {
	var done admin.LimitReset
	raw, err := c.get(ctx, out, http.MethodDelete, c.path(), &done)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if c.JSON {
		_, err = out.stdout.Write(raw)
		return err //nolint:wrapcheck // stdout is closed
	}
	if len(done.Limits) == 0 {
		fmt.Fprintln(out.stdout, noLimits)
		return nil
	}
	fmt.Fprintf(out.stdout, "%s has its full allowance of: %s\n",
		admin.Show(done.Key), admin.Show(strings.Join(done.Limits, ", ")))
	return nil
}
