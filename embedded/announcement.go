package embedded

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"millrace/node/state"
)

// announcement writes down that the node runs: the members' URL, the configuration as a good one, and the journal. A
// node whose disk is full serves all the same.
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

// recordStart writes the start into the journal, and whether the run before it ended as it should.
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

// shutdown writes into the journal that the node ends as it should.
func (a *announcement) shutdown(context.Context) error {
	a.state.record("stop", "draining")
	return nil
}

// writePrivate replaces a file whole, readable by its owner only. One that has the text already is left as it is.
func writePrivate(path, text string) error {
	if before, err := os.ReadFile(path); err == nil && string(before) == text {
		return os.Chmod(path, 0o600) //nolint:wrapcheck // the caller says what was written
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path) //nolint:wrapcheck // see above
}
