package nodetest

import "log/slog"

// Discard returns a logger that discards everything.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
