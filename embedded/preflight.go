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

// Preflight is the result of RunPreflight.
type Preflight struct {
	Disk     string   // how much of the data directory's disk the streams may use, and how much is free
	Warnings []string // what the node would not get as configured
}

// RunPreflight checks how a node with the configuration would run on this machine. It starts and changes nothing. The
// error wraps natsserver.ErrMode if the node would refuse to start on its data directory.
func RunPreflight(cfg *node.Config) (Preflight, error) {
	var out Preflight
	if cfg.Mesh.URL == "" {
		if err := checkMode(cfg); err != nil {
			return out, err
		}
	}
	if cfg.Mesh.Stores() {
		out.checkDisk(cfg)
	}
	memory := machine.ProcessMemory(os.DirFS("/"))
	if text := memoryWarning(cfg, memory); text != "" {
		out.Warnings = append(out.Warnings, text)
	}
	return out, nil
}

func checkMode(cfg *node.Config) error {
	server := natsserver.Config{
		Name: cfg.Node.Name, Dir: filepath.Join(cfg.Node.Data, "jetstream"), Leaf: leafOf(&cfg.Mesh),
	}
	if cfg.Mesh.Cluster.Enabled() {
		server.Cluster = clusterOf(&cfg.Mesh.Cluster)
	}
	if _, err := natsserver.CheckMode(&server); err != nil {
		return openNATSError(err)
	}
	return nil
}

// checkDisk compares what the streams may use with what is free in the data directory, or where it will be created.
func (p *Preflight) checkDisk(cfg *node.Config) {
	dir, err := nearestExisting(cfg.Node.Data)
	if err != nil {
		return
	}
	free, err := machine.DiskFree(dir)
	if err != nil {
		return
	}
	available := free + machine.DiskUsed(filepath.Join(cfg.Node.Data, "jetstream"))
	want := configuredSizes(cfg)
	used := streamBytes(cfg, want)
	p.Disk = fmt.Sprintf("data: %s has %s free, and the node's streams may take up to %s", cfg.Node.Data,
		inMiB(available), inMiB(used))
	switch {
	case used > 0 && !cfg.Mesh.Cluster.Enabled() && fitStreams(available, want) != want:
		// the running node reports the same
		p.Warnings = append(p.Warnings, tooSmall(cfg, want)+": it has "+inMiB(available))
	case used > available:
		p.Warnings = append(p.Warnings,
			fmt.Sprintf("the disk of %s is too small for what cache.disk and limits may take: %s of %s", cfg.Node.Data,
				inMiB(available), inMiB(used)))
	}
}

// nearestExisting returns dir, or its nearest parent that exists.
func nearestExisting(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	for err == nil {
		if _, err = os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir, err = filepath.Dir(dir), nil
			continue
		}
		return dir, err
	}
	return "", err
}

// streamBytes is how much the streams may use that the routes need.
func streamBytes(cfg *node.Config, s sizes) (bytes int64) {
	caches, limits := cfg.Uses()
	if limits {
		bytes += s.limits
	}
	if caches {
		bytes += s.bucket
	}
	return bytes
}
