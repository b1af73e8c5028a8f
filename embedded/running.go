package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"millrace/node"
)

// runningFile is where a running node says in its data directory how the operator reaches it.
const runningFile = "admin.json"

// Running says how the operator reaches the node that runs on a data directory.
type Running struct {
	Admin string `json:"admin"`           // URL of the admin API
	Token string `json:"token,omitempty"` // that it asks for
}

// FindRunning reads what the node that runs on a data directory says of itself. A node that was killed has left it
// behind, so it may not be true any more. It wraps os.ErrNotExist if there is none.
func FindRunning(dir string) (r Running, err error) {
	text, err := os.ReadFile(filepath.Join(dir, runningFile))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && r.Admin == "" {
		err = errors.New("it names no address")
	}
	if err != nil {
		return Running{}, fmt.Errorf("read where the node of %s is: %w", dir, err)
	}
	return r, nil
}

// running writes down how the operator reaches this node, until it closes. Commands find it there when the
// configuration file has changed, or can't be read.
type running struct {
	cfg   *node.Config
	admin *adminServer

	path string // of what was written; empty if nothing was
}

func (r *running) open(context.Context) error {
	path := filepath.Join(r.cfg.Node.Data, runningFile)
	text, err := json.Marshal(Running{Admin: r.admin.url(), Token: r.cfg.Admin.Token})
	if err == nil {
		err = writePrivate(path, string(text)+"\n")
	}
	if err != nil {
		return fmt.Errorf("write down where the admin API is: %w", err)
	}
	r.path = path
	return nil
}

func (r *running) close() error {
	if r.path == "" {
		return nil
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err //nolint:wrapcheck // the node says what it was
	}
	return nil
}
