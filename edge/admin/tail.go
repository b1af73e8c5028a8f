package admin

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Tailer is what the page tail needs of the node.
type Tailer interface {
	// Tail calls emit with the JSON of each event until ctx ends or emit returns false.
	Tail(ctx context.Context, emit func(event []byte) bool) error
}

// tailTimeout is how long writing an event may take.
const tailTimeout = 10 * time.Second

// tailPage streams events, one JSON object a line, until the operator disconnects.
func tailPage(node Tailer, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := http.NewResponseController(w)
		w.WriteHeader(http.StatusOK)
		if out.Flush() != nil {
			return
		}
		err := node.Tail(r.Context(), func(event []byte) bool {
			_ = out.SetWriteDeadline(time.Now().Add(tailTimeout)) // if this fails, so does Write
			_, err := w.Write(append(event, '\n'))
			return err == nil && out.Flush() == nil
		})
		if err != nil && r.Context().Err() == nil {
			log.WarnContext(r.Context(), "tail ended", "cause", err)
		}
	}
}
