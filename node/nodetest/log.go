package nodetest

import "log/slog"

// Discard is a logger that nobody reads.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
