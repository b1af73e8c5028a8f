package embedded

import (
	"context"
	"fmt"
	"path/filepath"

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

// measureDisk decides how much of its disk the node takes. Streams of a cluster belong to all its nodes, whose disks
// this one doesn't know, and those of an existing NATS are on another's: they are as configured.
func (n *Node) measureDisk(ctx context.Context) error {
	cfg := &n.opts.Config
	n.sizes = wanted(cfg)
	if n.nats == nil || cfg.Mesh.Cluster.Enabled() {
		return nil
	}
	free, err := machine.DiskFree(cfg.Node.Data)
	if err != nil {
		n.log.WarnContext(ctx, "the free space of the data directory is unknown", "cause", err)
		return nil
	}
	n.sizes = divide(free+machine.DiskUsed(filepath.Join(cfg.Node.Data, "jetstream")), n.sizes)
	if n.sizes != wanted(cfg) {
		n.log.WarnContext(ctx, "the disk is too small for what cache.disk and limits may take: they get less",
			"file", cfg.Node.Data, "free", node.Size(free).String(), "wanted", node.Size(wanted(cfg).total()).String(),
			"cache", node.Size(n.sizes.bucket).String(), "limits", node.Size(n.sizes.limits).String())
	}
	return nil
}

// roomCondition tells when the disk has no room for what the node's streams may still take.
func (n *Node) roomCondition() string {
	cfg := &n.opts.Config
	if !n.edge.Caches() && !n.edge.Limits() {
		return ""
	}
	want := wanted(cfg)
	if n.sizes != want && !cfg.Mesh.Cluster.Enabled() {
		return tooSmall(cfg, want) + fmt.Sprintf(": the cache keeps %s there and limits %s; "+
			"make room and start the node again, or lower cache.disk", inMiB(n.sizes.bucket), inMiB(n.sizes.limits))
	}
	disk := n.diskStatus()
	if disk.FreeBytes > 0 && disk.NeededBytes > disk.FreeBytes { // a full disk is told otherwise
		return fmt.Sprintf("the disk of %s has %s free, and the node's streams may still take %s: make room, or lower "+
			"cache.disk",
			cfg.Node.Data, inMiB(disk.FreeBytes), inMiB(disk.NeededBytes))
	}
	return ""
}

// tooSmall says of a disk that it has no room for the sizes as they are wanted.
func tooSmall(cfg *node.Config, want sizes) string {
	return fmt.Sprintf("the disk of %s is too small for the %s that cache.disk (twice, with values) and limits may "+
		"take",
		cfg.Node.Data, inMiB(want.total()))
}

func inMiB(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
