package natsserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrMode means that a JetStream directory belongs to another kind of server: stand-alone, of a cluster, or of a
// cluster with another name. A server of the wrong kind would delete the streams in it.
var ErrMode = errors.New("the data directory was used in another mode")

// standAlone is the mode of a server without a cluster, and of directories of releases before modes.
const standAlone = "stand-alone"

// mode is the content of the mode file. In a cluster it has the node's name, since there streams belong to names.
func (c *Config) mode() string {
	if c.Cluster == nil {
		return standAlone
	}
	return c.Cluster.mode() + " node " + c.Name
}

// mode is the content that earlier releases wrote, without the node's name.
func (c *Cluster) mode() string { return "cluster " + c.Name }

// modeFile is the path of the mode file.
func (c *Config) modeFile() string { return filepath.Join(c.Dir, "mode") }

// claimDir makes sure that the JetStream directory is of this server's mode, and marks a new one.
func (s *Server) claimDir() error {
	marked, err := CheckMode(&s.cfg)
	if err != nil || marked || !s.stores() {
		return err
	}
	if err := writeSynced(s.cfg.modeFile(), s.cfg.mode()+"\n"); err != nil {
		return fmt.Errorf("write the mode of the data directory: %w", err)
	}
	return nil
}

// CheckMode checks, without changing anything, whether a server may start on its directory. It uses Name, Dir,
// Cluster and Leaf of cfg. The error wraps ErrMode if the directory belongs to another kind of server. marked reports
// whether the directory has this server's mode; if not, it is new or of an earlier release.
func CheckMode(cfg *Config) (marked bool, err error) {
	if !cfg.stores() {
		return false, nil
	}
	found, err := cfg.readMode()
	if err != nil {
		return false, err
	}
	mode := cfg.mode()
	unnamed := cfg.Cluster != nil && found == cfg.Cluster.mode()
	switch {
	case found == mode:
		return true, nil
	case found == "", unnamed:
		return false, nil
	}
	way := fmt.Sprintf("move %s away (limits begin anew, and what was cached is fetched again), or start with an "+
		"empty directory", cfg.Dir)
	if cfg.Cluster != nil && strings.HasPrefix(found, cfg.Cluster.mode()+" node ") {
		way = "set node.name back, or start with an empty directory"
	}
	return false, fmt.Errorf(
		"%w: %s holds the streams of %q, and this node is to start as %q, which would delete them: %s", ErrMode,
		cfg.Dir, found, mode, way)
}

// readMode returns the mode of the directory; "" for a new one.
func (c *Config) readMode() (string, error) {
	mark := c.modeFile()
	b, err := os.ReadFile(mark)
	found := strings.TrimSpace(string(b))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Join(c.Dir, "jetstream")); err == nil {
			return standAlone, nil // of a release before modes
		}
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read the mode of the data directory: %w", err)
	case found != "":
		return found, nil
	}
	// A loss of power can leave an empty file, written by a release that didn't sync it.
	streams, err := filepath.Glob(filepath.Join(c.Dir, "jetstream", "*", "streams", "*"))
	if err != nil {
		return "", fmt.Errorf("look for streams: %w", err)
	}
	if len(streams) > 0 {
		return "", fmt.Errorf("%w: %s is empty, and there are streams beside it: write into it what the node was, %q "+
			"or %q, or start with an empty directory",
			ErrMode, mark, standAlone, "cluster NAME node NAME")
	}
	return "", nil
}

// removeIndexes removes the indexes of the streams that the server must rebuild.
func (s *Server) removeIndexes() error {
	if !s.stores() {
		return nil
	}
	for _, stream := range s.cfg.Rebuilt {
		err := os.Remove(filepath.Join(s.cfg.Dir, "jetstream", account, "streams", stream, "msgs", "index.db"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the index of a stream: %w", err)
		}
	}
	return nil
}

// writeSynced replaces a file. After a loss of power the old or the new file is there, complete.
func writeSynced(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in the directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkMode makes sure that JetStream runs in the mode that claimDir has checked.
func (s *Server) checkMode(srv *server.Server) error {
	if clustered := srv.JetStreamIsClustered(); s.stores() && clustered != (s.cfg.Cluster != nil) {
		return fmt.Errorf("start NATS server: it runs with clustered JetStream: %t, which isn't the mode %q", clustered,
			s.cfg.mode())
	}
	return nil
}
