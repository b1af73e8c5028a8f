package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/edge/admin"
	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
)

type statusCmd struct {
	readFlags
	Journal bool `help:"Print the newest events in the node's life too."`
}

// Run prints the state of the node. It fails if the node isn't ready, so that scripts can wait for it.
func (c *statusCmd) Run(ctx context.Context, out console) error {
	var st admin.FullStatus
	if printed, err := c.read(ctx, out, "/v1/status?services=true", &st); printed || err != nil {
		return err
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	aboutNode(w, &st)
	aboutConfig(w, &st)
	for i := range st.Nodes {
		aboutOther(w, &st.Nodes[i])
	}
	for _, u := range st.Upstreams {
		for _, t := range u.Targets {
			fmt.Fprintf(w, "upstream %s\t%s\n", u.Name, aboutTarget(t))
		}
	}
	aboutServices(w, st.Services)
	aboutSites(w, &st.Sites)
	if c.Journal {
		aboutJournal(w, st.Journal)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	if err := aboutRoutes(out.stdout, st.Routes); err != nil {
		return err
	}
	if !st.Ready {
		return fmt.Errorf("node %s is not ready", st.Node)
	}
	return nil
}

func aboutNode(w io.Writer, st *admin.FullStatus) {
	fmt.Fprintf(w, "node\t%s (%s), version %s, up %s\n", st.Node, st.ID,
		admin.Show(st.Version), time.Since(st.Started).Round(time.Second))
	fmt.Fprintf(w, "ready\t%t\n", st.Ready)
	for _, d := range st.Degraded {
		fmt.Fprintf(w, "\t! %s\n", admin.ShowLines(d, "\t  "))
	}
	fmt.Fprintf(w, "edge\t%s, %s in flight, %s\n", st.Edge,
		count(st.InFlight, "request"), count(st.Connections, "connection"))
	fmt.Fprintf(w, "NATS\t%s, JetStream %s\n", admin.Show(st.NATS), st.JetStream)
	fmt.Fprintf(w, "cache\t%d entries, %s of %s in memory, %s of %s in the bucket, %d purges\n",
		st.Cache.Entries, mib(st.Cache.MemoryBytes), mib(st.Cache.MemoryMax),
		mib(st.Cache.BucketBytes), mib(st.Cache.BucketMax), st.Cache.Purges)
	fmt.Fprintf(w, "disk\t%s free, the streams have %s and may take %s more\n", mib(st.Disk.FreeBytes),
		mib(st.Disk.UsedBytes), mib(st.Disk.NeededBytes))
}

// aboutConfig prints which configuration is applied, and what of the file isn't.
func aboutConfig(w io.Writer, st *admin.FullStatus) {
	fmt.Fprintf(w, "config\trevision %d\n", st.Revision)
	if r := st.RefusedReload; r != nil {
		fmt.Fprintf(w, "\t! the file was refused %s ago, at %s; revision %d stays applied:\n",
			time.Since(r.Since).Round(time.Second), r.Since.Local().Format(time.DateTime), st.Revision)
		text := strings.TrimPrefix(r.Error, "nothing was changed:\n")
		fmt.Fprintf(w, "\t  %s\n", admin.ShowLines(text, "\t  "))
	}
	if len(st.NeedsRestart) > 0 {
		fmt.Fprintf(w, "\t! changed in the file, but only a restart applies it: %s\n",
			strings.Join(st.NeedsRestart, ", "))
	}
}

// aboutOther prints the state of a node of the mesh.
func aboutOther(w io.Writer, m *mesh.Member) {
	seen := ""
	if m.State != mesh.MemberAlive {
		seen = fmt.Sprintf(", last heard %s ago", time.Since(m.Seen).Round(time.Second))
	}
	fmt.Fprintf(w, "node %s\t%s%s  revision %d, up since %s  %s\n", admin.Show(m.Name), m.State, seen, m.Revision,
		m.Started.Local().Format(time.DateTime), admin.Show(strings.Join(m.Roles, " ")))
}

// aboutServices prints the services and their members.
func aboutServices(w io.Writer, services *admin.Services) {
	if services == nil {
		return
	}
	for i := range services.List {
		s := &services.List[i]
		fmt.Fprintf(w, "service %s\t%s\n", admin.Show(s.Name), aboutMembers(s, services.Unknown))
	}
	if services.Unknown != "" {
		fmt.Fprintf(w, "\t! who serves isn't known: %s\n", admin.Show(services.Unknown))
	}
}

// aboutSites prints what the node has of the sites, if it serves any.
func aboutSites(w io.Writer, s *admin.SitesStatus) {
	if !s.Follows {
		return
	}
	fmt.Fprintf(w, "sites\t%s, %s of %s on disk, %s of %s in memory\n", count(s.Files, "file"), mib(s.DiskBytes),
		mib(s.DiskMax), mib(s.MemoryBytes), mib(s.MemoryMax))
	for i := range s.List {
		one := &s.List[i]
		what := "nothing is live"
		if one.Serves != (node.Digest{}) {
			what = fmt.Sprintf("serves %.12s since %s", one.Serves, one.Since.Local().Format(time.DateTime))
		}
		if one.Serves != one.Live {
			what += fmt.Sprintf("; %.12s is live, %s of %s of it are here", one.Live, mib(one.Bytes), mib(one.Total))
		}
		fmt.Fprintf(w, "site %s\t%s; %s, %s\n", one.Site, what, count(one.Deploys, "deploy"),
			count(one.Previews, "preview"))
	}
}

// maxMembersShown is how many members of a service are named.
const maxMembersShown = 4

// aboutMembers describes the members of a service; unknown is why they aren't known.
func aboutMembers(s *admin.Service, unknown string) string {
	if len(s.Members) == 0 {
		if unknown != "" {
			return "members unknown"
		}
		return "nobody serves it"
	}
	var names []string
	for _, m := range s.Members[:min(len(s.Members), maxMembersShown)] {
		name := m.Name
		if name == "" {
			name = m.Addr
		}
		names = append(names, admin.Show(name)+" on "+admin.Show(m.Server))
	}
	if more := len(s.Members) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return count(len(s.Members), "member") + ": " + strings.Join(names, ", ")
}

// aboutRoutes prints a table of the routes' current rates; nothing if there were no requests.
func aboutRoutes(out io.Writer, routes []admin.RouteRates) error {
	if len(routes) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nroute\ttakes\trequests/s\t5xx\t4xx\thits\tp50\tp99\trequests since the start\n")
	for _, r := range routes {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\t%s\t%s\t%s\t%s\t%d\n", admin.Show(r.Route), takes(&r), r.PerSecond,
			share(r.P50, &r.Errors), share(r.P50, &r.Refused), share(r.P50, r.Hits), inMS(r.P50), inMS(r.P99),
			r.Requests)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print routes: %w", err)
	}
	return nil
}

// takes returns the methods, host and path of a route; a dash if they aren't known any more.
func takes(r *admin.RouteRates) string {
	if r.Path == "" {
		return "-"
	}
	methods := make([]string, len(r.Methods))
	for i, m := range r.Methods {
		methods[i] = string(m)
	}
	return strings.TrimLeft(strings.Join(methods, ",")+" "+admin.Show(r.Host+r.Path), " ")
}

// share formats a share of requests; a dash if it isn't known, or there were no requests.
func share(some, s *float64) string {
	if some == nil || s == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100**s)
}

// inMS formats a time in milliseconds with about three digits.
func inMS(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 999.5:
		return fmt.Sprintf("%.3g ms", *ms)
	case *ms < 99_950:
		return fmt.Sprintf("%.1f s", *ms/1000)
	}
	return fmt.Sprintf("%.0f s", *ms/1000)
}

// aboutJournal prints the newest events.
func aboutJournal(w io.Writer, journal []admin.JournalEntry) {
	label := "journal"
	for _, e := range journal {
		fmt.Fprintf(w, "%s\t%s  %s  %s\n", label, e.Time.Local().Format(time.DateTime), admin.Show(e.Kind),
			admin.ShowLines(e.Detail, "\t  "))
		label = ""
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// aboutTarget describes an upstream's target in a line.
func aboutTarget(t upstream.TargetStatus) string {
	state := t.State
	if t.Canary {
		state += ", canary"
	}
	limit, mean := "", ""
	if t.Mean > 0 {
		mean = fmt.Sprintf(", mean %s", time.Duration(t.Mean)*time.Microsecond)
	}
	if t.Limit > 0 {
		limit = fmt.Sprintf(" of %d", t.Limit)
	}
	return fmt.Sprintf("%s  %s  %d%s in flight, %d requests, %d failures, %d ejections%s", admin.Show(t.Name()), state,
		t.InFlight, limit, t.Requests, t.Failures, t.Ejected, mean)
}
