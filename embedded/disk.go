package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"millrace/edge/admin"
	"millrace/embedded/machine"
	"millrace/kvcache/limit"
	"millrace/node"
)

// sizes are the bytes that a node's streams may use on disk: the limits' store, and the bucket of the cache. Values
// have another bucket of that size.
type sizes struct{ limits, bucket int64 }

// total is the sum: limits and two buckets.
func (s sizes) total() int64 { return s.limits + 2*s.bucket }

// Lower bounds for the streams of a node that stands alone, however small its disk is. If even these are too much, the
// condition for a full disk says so.
const (
	minLimitsBytes = 8 << 20
	minBucketBytes = 16 << 20
	reservedBytes  = 32 << 20 // and a tenth of the disk: for the node's state, the purges and other programs
)

// configuredSizes are the sizes that the configuration asks for.
func configuredSizes(cfg *node.Config) sizes { return sizes{limit.StoreBytes, int64(cfg.Cache.Disk)} }

// fitStreams returns sizes that fit into the available bytes: the wanted ones if they fit, else a quarter for limits
// and the rest for the two buckets.
func fitStreams(available int64, want sizes) sizes {
	available -= reservedBytes + available/10
	if want.total() <= available {
		return want
	}
	limits := min(max(available/4, minLimitsBytes), want.limits)
	return sizes{limits, min(max((available-limits)/2, minBucketBytes), want.bucket)}
}

// fitSites returns how much of the available bytes the stream of the sites' files may use beside the others: at most
// half of what they leave, since the files lie on the disk a second time.
func fitSites(available int64, others sizes, want int64) int64 {
	return min(max((available-reservedBytes-available/10-others.total())/2, minBucketBytes), want)
}

// disk decides how much of its disk the node uses. Streams of a cluster belong to all its nodes, and the streams of an
// existing NATS are on other machines. This node doesn't know those disks, so such streams get the configured sizes.
type disk struct {
	cfg   *node.Config
	log   *slog.Logger
	nats  *natsServer
	sizes sizes // set by open
	sites int64 // bytes that the stream with the files of sites may use; set by open
}

func (d *disk) open(ctx context.Context) error {
	d.sizes, d.sites = configuredSizes(d.cfg), int64(d.cfg.Sites.Disk)
	if !d.cfg.Mesh.Stores() || d.cfg.Mesh.Cluster.Enabled() {
		return nil
	}
	free, err := machine.DiskFree(d.cfg.Node.Data)
	if err != nil {
		d.log.WarnContext(ctx, "the free space of the data directory is unknown", "cause", err)
		return nil
	}
	available := free + machine.DiskUsed(filepath.Join(d.cfg.Node.Data, "jetstream"))
	d.sizes = fitStreams(available, d.sizes)
	d.sites = fitSites(available, d.sizes, d.sites)
	if want := configuredSizes(d.cfg); d.sizes != want {
		d.log.WarnContext(ctx, "the disk is too small for what cache.disk and limits may take: they get less",
			"file", d.cfg.Node.Data, "free", node.Size(free).String(), "wanted", node.Size(want.total()).String(),
			"cache", node.Size(d.sizes.bucket).String(), "limits", node.Size(d.sizes.limits).String())
	}
	return nil
}

// tooSmall says that the disk has no space for the configured sizes.
func tooSmall(cfg *node.Config, want sizes) string {
	return fmt.Sprintf("the disk of %s is too small for the %s that cache.disk (twice, with values) and limits may "+
		"take",
		cfg.Node.Data, inMiB(want.total()))
}

func inMiB(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// diskSpace reports what is left of the disk for the node's streams.
type diskSpace struct {
	cfg     *node.Config
	disk    *disk
	storage *storage
	edge    *edgeServer
}

// conditions reports that the node's streams may grow beyond the disk.
func (r *diskSpace) conditions(f *conditionList) {
	if !r.edge.server.Caches() && !r.edge.server.Limits() {
		return
	}
	want := configuredSizes(r.cfg)
	if sizes := r.disk.sizes; sizes != want && !r.cfg.Mesh.Cluster.Enabled() {
		f.add(tooSmall(r.cfg, want)+fmt.Sprintf(": the cache keeps %s there and limits %s; "+
			"make room and start the node again, or lower cache.disk", inMiB(sizes.bucket), inMiB(sizes.limits)), false)
		return
	}
	disk := r.usage()
	if disk.FreeBytes > 0 && disk.NeededBytes > disk.FreeBytes { // a disk that is full now is reported by storage
		f.add(fmt.Sprintf("the disk of %s has %s free, and the node's streams may still take %s: make room, or lower "+
			"cache.disk", r.cfg.Node.Data, inMiB(disk.FreeBytes), inMiB(disk.NeededBytes)), false)
	}
}

func (r *diskSpace) status(st *admin.Status) { st.Disk = r.usage() }

// usage returns how much of its disk the node uses, and how much more it may use.
func (r *diskSpace) usage() admin.DiskStatus {
	free, used := r.storage.space()
	st := admin.DiskStatus{FreeBytes: free, UsedBytes: used}
	if !r.cfg.Mesh.Stores() {
		return st
	}
	var most sizes
	if r.edge.server.Limits() {
		most.limits = r.disk.sizes.limits
	}
	if r.edge.server.Caches() {
		most.bucket = r.disk.sizes.bucket
	}
	st.NeededBytes = max(most.limits+most.bucket-used, 0)
	return st
}
