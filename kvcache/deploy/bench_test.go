package deploy_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/node"
)

// BenchmarkRollback measures rollbacks of a site with 2,000 files on three nodes with three replicas: from the call
// until each node serves the other deploy.
func BenchmarkRollback(b *testing.B) {
	c := start(b, 3, natsservertest.StartThree(b)...)
	files := folder{"/index.html": "0"}
	for i := range 2000 {
		files[fmt.Sprintf("/f/%d.txt", i)] = strconv.Itoa(i)
	}
	c.nodes[0].publish(b, "www", files)
	files["/index.html"] = "1"
	c.nodes[0].publish(b, "www", files)
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		done, err := c.nodes[0].Rollback(b.Context(), "www", node.Digest{}, "", "")
		if err != nil || len(done.Behind) > 0 {
			b.Fatalf("got %+v, %v", done, err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}
