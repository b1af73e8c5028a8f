package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/edge/cache"
)

type explainCmd struct {
	readFlags
	Method string   `short:"X" default:"GET" help:"Method of the request."`
	Header []string `short:"H" placeholder:"NAME: VALUE" help:"A header field of the request."`
	URL    string   `arg:"" help:"What the client asks for: a path such as /api/users?page=2, on any host, or a URL."`
}

// Run prints the route of the request and where it goes.
func (c *explainCmd) Run(ctx context.Context, out console) error {
	if c.URL == "" {
		return usageError("name a request: a path such as /api/users?page=2, or a URL")
	}
	q := url.Values{"method": {c.Method}, "url": {completeTarget(c.URL)}, "header": c.Header}
	var e admin.Explanation
	if printed, err := c.read(ctx, out, "/v1/explain?"+q.Encode(), &e); printed || err != nil {
		return err
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "request\t%s %s\n", admin.Show(e.Method), admin.Show(e.Host+e.Path+e.Query))
	if e.Refusal != "" {
		fmt.Fprintf(w, "answer\t%d, %s\n", e.Status, admin.Show(e.Refusal))
	} else {
		explainWay(w, &e)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Params)) {
		fmt.Fprintf(w, "{%s}\t%s\n", name, admin.Show(e.Params[name]))
	}
	for _, l := range e.Limits {
		fmt.Fprintf(w, "limit\t%s: %s, by %s\n", admin.Show(l.Name), l.Text, l.Key)
	}
	if e.Cache != nil {
		explainCache(w, e.Cache)
	}
	for _, other := range e.Also {
		fmt.Fprintf(w, "also %s\t%s\n", admin.Show(other.Host), aboutHost(other))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print explanation: %w", err)
	}
	return nil
}

// explainWay prints the route and its target.
func explainWay(w io.Writer, e *admin.Explanation) {
	fmt.Fprintf(w, "route\t%s (%s)\ntarget\t%s\n", e.Route, e.Pattern, admin.Show(e.Target))
	if e.Subject != "" {
		fmt.Fprintf(w, "subject\t%s%s\n", e.Subject, carrierNote(e.Carrier))
	}
	if e.Asks != "" {
		fmt.Fprintf(w, "asks for\t%s\n", admin.Show(e.Asks))
	}
	for _, c := range e.Calls {
		fmt.Fprintf(w, "call %s\t%s\n", c.Name, aboutCall(c))
	}
	explainSites(w, e.Sites)
	explainMembers(w, e)
	if e.Unseen {
		name := strings.TrimPrefix(e.Target, "service:")
		fmt.Fprintf(w, "\t! the answer is 404: no route matches, and nobody has served %s since this node started\n",
			admin.Show(name))
	}
	for _, u := range e.Upstreams {
		fmt.Fprintf(w, "upstream %s\t%d retries, %d denied, %d hedges, %d waiting, %d refused\n",
			u.Name, u.Retries, u.Unpaid, u.Hedges, u.Waiting, u.Refused)
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

// explainMembers prints the members of the services that the request goes to.
func explainMembers(w io.Writer, e *admin.Explanation) {
	if e.Services == nil && e.Served != nil && !*e.Served {
		fmt.Fprintf(w, "\t! nobody subscribes to %s\n", e.Subject)
	}
	if e.Services == nil {
		return
	}
	for i := range e.Services.List {
		s := &e.Services.List[i]
		text := aboutMembers(s, e.Services.Unknown)
		switch {
		case len(s.Members) > 0:
		case e.Services.Unknown != "":
			text += ": " + admin.Show(e.Services.Unknown)
		case e.Subject != "":
			text += fmt.Sprintf(": a member subscribes to %s in queue group q", e.Subject)
		}
		fmt.Fprintf(w, "service %s\t%s\n", admin.Show(s.Name), text)
	}
}

// aboutHost describes in a line what would become of the request on another host.
func aboutHost(h edge.HostExplanation) string {
	out := h.Route + " → " + admin.Show(h.Target)
	if h.Cache != "" {
		out += ", cache " + h.Cache
	}
	return out
}

// carrierNote says that a request doesn't go through NATS.
func carrierNote(carrier string) string {
	if carrier == "memory" {
		return ", in memory"
	}
	return ""
}

// aboutTimeout returns the effective timeout and the setting that it comes from.
func aboutTimeout(b edge.Bound) string {
	out := b.Timeout + ", by " + b.TimeoutOf
	if b.RouteTimeout != "" {
		out += ", which is shorter than the route's " + b.RouteTimeout
	}
	return out
}

// aboutCall describes a call of a gather in a line.
func aboutCall(c edge.CallInfo) string {
	out := fmt.Sprintf("%s  %s  %s%s", c.Target, c.Path, c.Subject, carrierNote(c.Carrier))
	if len(c.After) > 0 {
		out += ", after " + strings.Join(c.After, ", ")
	}
	if c.TimeoutOf != "route" && c.TimeoutOf != "edge.timeout" { // else it is that of the whole gather
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

// explainCache prints what the cache has stored, why or why not, and how long it stays.
func explainCache(w io.Writer, c *cache.Explanation) {
	why := ""
	if c.Why != "" {
		why = ": " + admin.Show(c.Why)
	}
	fmt.Fprintf(w, "cache\t%s%s\n", c.State, why)
	if c.Key != "" {
		fmt.Fprintf(w, "key\t%s\n", admin.Show(c.Key))
	}
	if c.Vary != "" {
		fmt.Fprintf(w, "varies on\t%s\n", admin.Show(c.Vary))
	}
	if c.Expires != nil {
		fmt.Fprintf(w, "stored\t%d, %d bytes, in the %s, age %s\n", c.Status, c.Bytes, c.In, c.Age)
		fmt.Fprintf(w, "fresh for\t%s, until %s\nkept until\t%s\n", c.Fresh, c.Expires.Local().Format(time.DateTime),
			c.Gone.Local().Format(time.DateTime))
	}
	if len(c.Tags) > 0 {
		var tags []string
		for _, tag := range c.Tags {
			tags = append(tags, admin.Show(tag))
		}
		fmt.Fprintf(w, "tags\t%s\n", strings.Join(tags, ", "))
	}
	if c.State != "off" && !c.Leased {
		fmt.Fprintln(w, "\t! this node can't hear of purges: it asks the origin before it serves what is stored")
	}
}
