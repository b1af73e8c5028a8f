package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"millrace/edge/admin"
	"millrace/embedded/logs"
	"millrace/node"
	"millrace/node/config"
	"millrace/node/state"
)

// stateFile is the node's SQLite file: its identity, the configurations that were applied, and the journal.
type stateFile struct {
	opts    *Options
	log     *slog.Logger
	secrets *logs.Secrets // hidden in the journal

	store    *state.Store // nil before open
	identity state.Identity
	revision atomic.Int64 // of the configuration saved last
}

// open creates the data directory and opens the node's state in it.
func (s *stateFile) open(ctx context.Context) error {
	dir := s.opts.Config.Node.Data
	used := usedBefore(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory %s: choose another with node.data: %w", dir, err)
	}
	store, err := state.New(state.Config{Path: filepath.Join(dir, "node.db")})
	if err != nil {
		return fmt.Errorf("configure state: %w", err)
	}
	if err := store.Open(ctx); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	s.store = store
	s.reportDamage(ctx, used)
	s.identity, err = store.Identity(ctx)
	if err != nil {
		return fmt.Errorf("read node identity: %w", err)
	}
	return nil
}

func (s *stateFile) close() error {
	if s.store == nil {
		return nil
	}
	return s.store.Close()
}

// record adds an event to the journal; before open it does nothing. An error is only logged: a journal that can't be
// written must not stop a node that serves.
func (s *stateFile) record(kind, detail string) {
	if s.store == nil {
		return
	}
	detail = s.secrets.Hide(detail)
	if err := s.store.Record(context.Background(), kind, detail); err != nil {
		s.log.Warn("journal not written", "kind", kind, "cause", err)
	}
}

// journalShown is the number of events in status.
const journalShown = 20

func (s *stateFile) journal(ctx context.Context) ([]admin.JournalEntry, error) {
	events, err := s.store.Events(ctx, journalShown)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	out := make([]admin.JournalEntry, 0, len(events))
	for _, e := range events {
		out = append(out, admin.JournalEntry{Time: e.Time, Kind: e.Kind, Detail: e.Detail})
	}
	return out, nil
}

// save stores an applied configuration with its text. If text is empty, it stores the configuration marshaled.
func (s *stateFile) save(ctx context.Context, cfg *node.Config, text string) (revision int64, err error) {
	if text == "" {
		b, err := config.Marshal(cfg)
		if err != nil {
			return 0, fmt.Errorf("write the configuration down: %w", err)
		}
		text = string(b)
	}
	source := s.opts.ConfigPath
	if source == "" {
		source = "command line"
	}
	saved, err := s.store.SaveConfig(ctx, text, source)
	if err != nil {
		return 0, fmt.Errorf("save the configuration: %w", err)
	}
	return saved.Revision, nil
}

func (s *stateFile) status(st *admin.Status) {
	st.ID, st.Revision = s.identity.ID, s.revision.Load()
}

// usedBefore reports whether a node has run on the directory: it leaves client.url and its streams there.
func usedBefore(dir string) bool {
	for _, name := range []string{"client.url", filepath.Join("jetstream", "mode")} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// reportDamage logs and records what was wrong with the state, and what is lost by it.
func (s *stateFile) reportDamage(ctx context.Context, used bool) {
	const lost = "identity, journal and the configurations that worked"
	aside, log := s.store.SetAside(), s.store.LostLog()
	if log != "" {
		s.log.ErrorContext(ctx,
			"the log of the node's state was damaged: what was written down last is lost; a copy is kept", "file", log)
		s.record("state-log-damaged", "what was written down last is lost; a copy is "+log)
	}
	switch {
	case aside != "":
		s.log.ErrorContext(ctx,
			"the node's state was corrupt and is set aside: it starts with a new identity and an empty journal", "file",
			aside)
		s.record("state-corrupt", "set aside as "+aside+"; lost: "+lost+s.reportLostToken(ctx))
	case s.store.Fresh() && used:
		s.log.ErrorContext(ctx,
			"the node's state was missing or empty in a data directory that was in use: it starts with a new identity "+
				"and an empty journal; is it the right directory?",
			"file", filepath.Join(s.opts.Config.Node.Data, "node.db"))
		s.record("state-lost", "node.db was missing or empty; lost: "+lost+s.reportLostToken(ctx))
	}
}

// reportLostToken logs that the generated member token was lost with the state. It returns the text for the journal; ""
// if the token isn't a generated one.
func (s *stateFile) reportLostToken(ctx context.Context) string {
	m := s.opts.Config.Mesh
	if m.Token != "" || m.URL != "" {
		return ""
	}
	s.log.ErrorContext(ctx,
		"the member token was part of the state and is another now: members with the old one are refused; give them "+
			"the URL in client.url, and set mesh.token to have one that stays",
		"file", filepath.Join(s.opts.Config.Node.Data, "client.url"))
	return "; also the generated member token: members with the old one are refused until they have the new URL of " +
		"client.url"
}
