package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"millrace/embedded/machine"
	"millrace/embedded/natsserver"
	"millrace/node"
)

// Preflight is what a configuration meets on this machine.
type Preflight struct {
	Disk     string   // how much the streams may take of the disk of the data directory, and how much is free
	Warnings []string // what the node would not get as configured
}

// Look tells what a node of the configuration would meet on this machine, without starting it or changing anything. It
// fails if the node would refuse to start on its data directory: natsserver.ErrMode.
func Look(cfg *node.Config) (Preflight, error) {
	var out Preflight
	if cfg.Mesh.URL == "" {
		if err := lookAtMode(cfg); err != nil {
			return out, err
		}
		out.lookAtDisk(cfg)
	}
	memory := machine.ProcessMemory(os.DirFS("/"))
	if text := scarcity(cfg, memory); text != "" {
		out.Warnings = append(out.Warnings, text)
	}
	return out, nil
}

func lookAtMode(cfg *node.Config) error {
	server := natsserver.Config{Name: cfg.Node.Name, Dir: filepath.Join(cfg.Node.Data, "jetstream")}
	if cfg.Mesh.Cluster.Enabled() {
		server.Cluster = clusterOf(&cfg.Mesh.Cluster)
	}
	if _, err := natsserver.CheckMode(&server); err != nil {
		return openNATSError(err)
	}
	return nil
}

// lookAtDisk compares what the streams of the routes may take with what is free: where the data directory is, or will
// be.
func (p *Preflight) lookAtDisk(cfg *node.Config) {
	dir, err := nearest(cfg.Node.Data)
	if err != nil {
		return
	}
	free, err := machine.DiskFree(dir)
	if err != nil {
		return
	}
	room := free + machine.DiskUsed(filepath.Join(cfg.Node.Data, "jetstream"))
	want := wanted(cfg)
	used := usedBy(cfg, want)
	p.Disk = fmt.Sprintf("data: %s has %s free, and the node's streams may take up to %s", cfg.Node.Data, inMiB(room),
		inMiB(used))
	switch {
	case used > 0 && !cfg.Mesh.Cluster.Enabled() && divide(room, want) != want: // as the node says when it runs
		p.Warnings = append(p.Warnings, tooSmall(cfg, want)+": it has "+inMiB(room))
	case used > room:
		p.Warnings = append(p.Warnings,
			fmt.Sprintf("the disk of %s is too small for what cache.disk and limits may take: %s of %s", cfg.Node.Data,
				inMiB(room), inMiB(used)))
	}
}

// nearest is the directory, or the first above it that is there.
func nearest(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	for err == nil {
		if _, err = os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir, err = filepath.Dir(dir), nil
			continue
		}
		return dir, err //nolint:wrapcheck // it is only asked whether there is one
	}
	return "", err //nolint:wrapcheck // see above
}

// usedBy is what the streams that the routes need may take.
func usedBy(cfg *node.Config, s sizes) (bytes int64) {
	caches, limits := cfg.Uses()
	if limits {
		bytes += s.limits
	}
	if caches {
		bytes += s.bucket
	}
	return bytes
}
