//go:build system

package chaos_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// trial is one failure. run simulates it, asserts by t what must hold, and returns a short summary with figures.
type trial struct {
	name    string // as the test's name: short, without spaces
	promise string // what must hold, for the table
	run     func(t *testing.T, long bool) (seen string)
}

// trials are all trials, in the order in which they run.
var trials = []trial{
	{"FullDisk", "a full disk is told, costs only what needs it, and heals by itself", fullDisk},
	{"FullNode", "a full disk of one of three nodes costs the others nothing, and heals by itself", fullNode},
	{"SmallMemory", "a node in a cgroup of 400 MiB lives on with the sizes by default, and says when the configured " +
		"ones are too much", smallMemory},
	{"TinyDisk", "a disk that is too small for the defaults serves, and says what is missing", tinyDisk},
	{"LimitLeaderKilled", "limited routes ride out the death of the node that leads their store", limitLeaderKilled},
	{"LimitColdStart", "limited routes serve soon after all nodes were killed and started", limitColdStart},
	{"Vanish", "a machine that vanishes swallows requests for 5 s at most", vanish},
	{"LargeCache", "no response is cut by the cache itself", largeCache},
	{"LimitSoak", "limits of a healthy cluster answer every request", limitSoak},
	{"SitePublish", "what was published is on every node, with bounded memory", sitePublish},
	{
		"SiteFlips", "each page finds its script on every node while deploys change, and no connection goes back",
		siteFlips,
	},
	{"SiteKills", "a node killed while somebody publishes leaves the old or the new deploy, whole", siteKills},
	{"SiteDisk", "a node whose disk is wiped, damaged or alone serves sites, and never wrong bytes", siteDisk},
	{"SiteReaders", "a hundred readers of a large file cost a node hardly any memory", siteReaders},
	{"SiteLeaf", "a node far away has what was published, serves while it is cut off, and catches up", siteLeaf},
	{"LimitDamagedDisk", "a node whose limits are damaged on disk serves, and says what was lost", limitDamagedDisk},
}

// TestChaos runs every trial, one after another, and prints one table. CHAOS_LONG=1 selects the long forms.
func TestChaos(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the trials mount file systems and make network namespaces: run them as root")
	}
	long := os.Getenv("CHAOS_LONG") != ""
	var table strings.Builder
	table.WriteString("\n| trial | promise | seen | time | holds |\n|---|---|---|---|---|\n")
	for _, tr := range trials {
		begun := time.Now()
		seen := ""
		holds := t.Run(tr.name, func(t *testing.T) { seen = tr.run(t, long) })
		fmt.Fprintf(&table, "| %s | %s | %s | %.0f s | %t |\n", tr.name, tr.promise, seen, time.Since(begun).Seconds(),
			holds)
	}
	t.Log(table.String())
}
