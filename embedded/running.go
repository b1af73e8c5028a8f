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

// runningFile is the file in the data directory that says where a running node's admin API is.
const runningFile = "admin.json"

// Running says how to reach the admin API of the node that runs on a data directory.
type Running struct {
	Admin string `json:"admin"`           // URL of the admin API
	Token string `json:"token,omitempty"` // of the admin API
}

// FindRunning returns what the node on a data directory has written about itself. A node that was killed leaves the
// file behind, so the address may be out of date. The error wraps os.ErrNotExist if there is no such file.
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

// running writes down how to reach this node's admin API, and removes that on close. Commands read it when the
// configuration file has changed or has mistakes.
type running struct {
	cfg   *node.Config
	admin *adminServer

	path string // of the file that was written; empty if there is none
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
		return err
	}
	return nil
}
