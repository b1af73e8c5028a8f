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

// sizes are how much of the disk the streams of a node may take: the store of limits, and the bucket of the cache,
// which values have another of.
type sizes struct{ limits, bucket int64 }

// total is what they come to.
func (s sizes) total() int64 { return s.limits + 2*s.bucket }

// The least that a node that stands alone makes its streams of, whatever its disk: what is too much even so is told
// when the disk is full.
const (
	leastLimits = 8 << 20
	leastBucket = 16 << 20
	roomAside   = 32 << 20 // and a tenth: for the node's state, the purges, and what others write
)

// wanted are the sizes of a configuration.
func wanted(cfg *node.Config) sizes { return sizes{limit.StoreBytes, int64(cfg.Cache.Disk)} }

// divide gives the sizes that fit the room there is: as they are wanted, or a quarter for limits and the rest for the
// buckets.
func divide(room int64, want sizes) sizes {
	room -= roomAside + room/10
	if want.total() <= room {
		return want
	}
	limits := min(max(room/4, leastLimits), want.limits)
	return sizes{limits, min(max((room-limits)/2, leastBucket), want.bucket)}
}

// disk decides how much of its disk the node takes. Streams of a cluster belong to all its nodes, whose disks this one
// doesn't know, and those of an existing NATS are on another's: they are as configured.
type disk struct {
	cfg   *node.Config
	log   *slog.Logger
	nats  *natsServer
	sizes sizes // set by open
}

func (d *disk) open(ctx context.Context) error {
	d.sizes = wanted(d.cfg)
	if d.nats.server == nil || d.cfg.Mesh.Cluster.Enabled() {
		return nil
	}
	free, err := machine.DiskFree(d.cfg.Node.Data)
	if err != nil {
		d.log.WarnContext(ctx, "the free space of the data directory is unknown", "cause", err)
		return nil
	}
	d.sizes = divide(free+machine.DiskUsed(filepath.Join(d.cfg.Node.Data, "jetstream")), d.sizes)
	if want := wanted(d.cfg); d.sizes != want {
		d.log.WarnContext(ctx, "the disk is too small for what cache.disk and limits may take: they get less",
			"file", d.cfg.Node.Data, "free", node.Size(free).String(), "wanted", node.Size(want.total()).String(),
			"cache", node.Size(d.sizes.bucket).String(), "limits", node.Size(d.sizes.limits).String())
	}
	return nil
}

// tooSmall says of a disk that it has no room for the sizes as they are wanted.
func tooSmall(cfg *node.Config, want sizes) string {
	return fmt.Sprintf("the disk of %s is too small for the %s that cache.disk (twice, with values) and limits may "+
		"take",
		cfg.Node.Data, inMiB(want.total()))
}

func inMiB(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// room is what is left of the disk for the node's streams.
type room struct {
	cfg     *node.Config
	disk    *disk
	storage *storage
	edge    *edgeServer
}

// conditions tells when the disk has no room for what the node's streams may still take.
func (r *room) conditions(f *found) {
	if !r.edge.server.Caches() && !r.edge.server.Limits() {
		return
	}
	want := wanted(r.cfg)
	if sizes := r.disk.sizes; sizes != want && !r.cfg.Mesh.Cluster.Enabled() {
		f.add(tooSmall(r.cfg, want)+fmt.Sprintf(": the cache keeps %s there and limits %s; "+
			"make room and start the node again, or lower cache.disk", inMiB(sizes.bucket), inMiB(sizes.limits)), false)
		return
	}
	disk := r.measured()
	if disk.FreeBytes > 0 && disk.NeededBytes > disk.FreeBytes { // a full disk is told otherwise
		f.add(fmt.Sprintf("the disk of %s has %s free, and the node's streams may still take %s: make room, or lower "+
			"cache.disk", r.cfg.Node.Data, inMiB(disk.FreeBytes), inMiB(disk.NeededBytes)), false)
	}
}

func (r *room) status(st *admin.Status) { st.Disk = r.measured() }

// measured tells how much of its disk the node has, and may still take.
func (r *room) measured() admin.DiskStatus {
	free, used := r.storage.space()
	st := admin.DiskStatus{FreeBytes: free, UsedBytes: used}
	if r.storage.store == nil {
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
