package admin

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Tailer answers for tail.
type Tailer interface {
	// Tail calls emit with the JSON of each event until ctx ends or emit returns false.
	Tail(ctx context.Context, emit func(event []byte) bool) error
}

// tailPatience is how long a reader of events may take none.
const tailPatience = 10 * time.Second

// tailPage streams events, one JSON object a line, until the operator goes away.
func tailPage(node Tailer, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := http.NewResponseController(w)
		w.WriteHeader(http.StatusOK)
		if out.Flush() != nil {
			return
		}
		err := node.Tail(r.Context(), func(event []byte) bool {
			_ = out.SetWriteDeadline(time.Now().Add(tailPatience)) // a connection without deadlines fails at the write
			_, err := w.Write(append(event, '\n'))
			return err == nil && out.Flush() == nil
		})
		if err != nil && r.Context().Err() == nil {
			log.WarnContext(r.Context(), "tail ended", "cause", err)
		}
	}
}
