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

// limitsCmd holds the flags of its commands, so that they may stand before and after their names.
type limitsCmd struct {
	readFlags
	Limit string         `placeholder:"NAME" help:"Only this limit (default: all)."`
	Show  limitsShowCmd  `cmd:"" help:"Tell what a client has left: millrace limits show 203.0.113.7"`
	Reset limitsResetCmd `cmd:"" help:"Give a client its full allowance again."`
}

// limitKey is the argument that names a client.
type limitKey struct {
	Key string `arg:"" help:"The client as the limit counts it: an address, a field's value, or all for limits that count every request together."`
}

// path is the path of the admin API for the client.
func (c *limitsCmd) path(key string) (string, error) {
	switch {
	case key == "":
		return "", usageError("name a client: an address, a field's value, or all")
	case c.Limit == "":
		return "/v1/limits?" + url.Values{"key": {key}}.Encode(), nil
	}
	return "/v1/limits/" + url.PathEscape(c.Limit) + "/" + url.PathEscape(key), nil
}

const noLimits = "this node has no limits that count such a client"

type limitsShowCmd struct{ limitKey }

// Run prints what the client has used.
func (c *limitsShowCmd) Run(ctx context.Context, out console, limits *limitsCmd) error {
	path, err := limits.path(c.Key)
	if err != nil {
		return err
	}
	var list []admin.LimitUsage
	if printed, err := limits.read(ctx, out, path, &list); printed || err != nil {
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
			resets = fmt.Sprintf("\tresets %s (in %s)", u.Resets.Local().Format(time.DateTime),
				time.Until(*u.Resets).Round(time.Second))
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

// Run gives the client its full allowance.
func (c *limitsResetCmd) Run(ctx context.Context, out console, limits *limitsCmd) error {
	path, err := limits.path(c.Key)
	if err != nil {
		return err
	}
	var done admin.LimitReset
	raw, err := limits.get(ctx, out, http.MethodDelete, path, &done)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if limits.JSON {
		_, err = out.stdout.Write(raw)
		return err
	}
	if len(done.Limits) == 0 {
		fmt.Fprintln(out.stdout, noLimits)
		return nil
	}
	fmt.Fprintf(out.stdout, "%s has its full allowance of: %s\n",
		admin.Show(done.Key), admin.Show(strings.Join(done.Limits, ", ")))
	return nil
}
