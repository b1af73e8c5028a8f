package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/edge/admin"
	"millrace/mesh"
	"millrace/mesh/upstream"
)

type statusCmd struct {
	readFlags
}

// Run prints what the node says about itself. It fails when the node isn't ready, so that scripts can wait for it.
func (c *statusCmd) Run(ctx context.Context, out console) error {
	var st admin.FullStatus
	if printed, err := c.read(ctx, out, "/v1/status", &st); printed || err != nil {
		return err
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "node\t%s (%s), version %s, up %s\n", st.Node, st.ID, st.Version, time.Since(st.Started).Round(time.Second))
	fmt.Fprintf(w, "ready\t%t\n", st.Ready)
	for _, d := range st.Degraded {
		fmt.Fprintf(w, "\t! %s\n", d)
	}
	fmt.Fprintf(w, "edge\t%s, %d requests in flight, %d connections\n", st.Edge, st.InFlight, st.Connections)
	fmt.Fprintf(w, "NATS\t%s, JetStream %s\n", st.NATS, st.JetStream)
	fmt.Fprintf(w, "cache\t%d entries, %s of %s in memory, %s of %s in the bucket, %d purges\n", st.Cache.Entries,
		mib(st.Cache.MemoryBytes), mib(st.Cache.MemoryMax), mib(st.Cache.BucketBytes), mib(st.Cache.BucketMax), st.Cache.Purges)
	fmt.Fprintf(w, "config\trevision %d\n", st.Revision)
	fmt.Fprintf(w, "disk\t%s free, the streams have %s and may take %s more\n", mib(st.Disk.FreeBytes), mib(st.Disk.UsedBytes), mib(st.Disk.NeededBytes))
	for _, m := range st.Members {
		seen := ""
		if m.State != mesh.MemberAlive {
			seen = fmt.Sprintf(", last heard %s ago", time.Since(m.Seen).Round(time.Second))
		}
		fmt.Fprintf(w, "member %s\t%s%s  revision %d, up since %s  %s\n", m.Name, m.State, seen, m.Revision, m.Started.Local().Format(time.DateTime), strings.Join(m.Roles, " "))
	}
	for _, u := range st.Upstreams {
		for _, t := range u.Targets {
			fmt.Fprintf(w, "upstream %s\t%s\n", u.Name, aboutTarget(t))
		}
	}
	for i, e := range st.Journal {
		label := ""
		if i == 0 {
			label = "journal"
		}
		fmt.Fprintf(w, "%s\t%s  %s  %s\n", label, e.Time.Local().Format(time.DateTime), e.Kind, e.Detail)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	if !st.Ready {
		return fmt.Errorf("node %s is not ready", st.Node)
	}
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// aboutTarget tells of a target in a line.
func aboutTarget(t upstream.TargetStatus) string {
	state := t.State
	if t.Canary {
		state += ", canary"
	}
	limit := ""
	if t.Limit > 0 {
		limit = fmt.Sprintf(" of %d", t.Limit)
	}
	return fmt.Sprintf("%s  %s  %d%s in flight, %d requests, %d failures, %d ejections, %s", t.Name(), state, t.InFlight, limit, t.Requests, t.Failures, t.Ejected,
		time.Duration(t.Mean)*time.Microsecond)
}
