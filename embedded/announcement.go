package embedded

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"millrace/node/state"
)

// announcement records that the node runs: it writes the members' URL, saves the configuration, and adds the start to
// the journal. If the disk is full the node serves without that.
type announcement struct {
	opts  *Options
	log   *slog.Logger
	state *stateFile
	nats  *natsServer
}

func (a *announcement) open(ctx context.Context) error {
	if a.nats.server != nil {
		path := filepath.Join(a.opts.Config.Node.Data, "client.url")
		if err := writePrivate(path, a.nats.url()+"\n"); err != nil {
			a.log.ErrorContext(ctx, "the members' URL can't be written: members that read it may not find the node",
				"file", path, "cause", err)
		}
	}
	revision, err := a.state.save(ctx, &a.opts.Config, a.opts.ConfigText)
	if err != nil {
		a.log.ErrorContext(ctx, "the configuration can't be saved", "cause", err)
	}
	a.state.revision.Store(revision)
	a.recordStart(ctx)
	return nil
}

// recordStart adds the start to the journal, and whether the previous run was shut down.
func (a *announcement) recordStart(ctx context.Context) {
	before := ""
	switch last, err := a.state.store.LastEvent(ctx, "start", "stop", "start-failed"); {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		a.log.WarnContext(ctx, "journal not read", "cause", err)
	case last.Kind == "start":
		before = "; the run before wasn't shut down"
	}
	a.state.record("start", "version "+a.opts.Version+before)
}

// shutdown adds to the journal that the node was shut down.
func (a *announcement) shutdown(context.Context) error {
	a.state.record("stop", "draining")
	return nil
}

// writePrivate replaces a file atomically. Only its owner may read it. A file that has the text already isn't written
// again.
func writePrivate(path, text string) error {
	if before, err := os.ReadFile(path); err == nil && string(before) == text {
		return os.Chmod(path, 0o600)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path)
}
