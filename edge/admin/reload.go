package admin

import (
	"context"
	"net/http"
	"time"
)

// Reloader answers for reload.
type Reloader interface {
	// Reload applies the configuration file anew. The error is for the operator and names every mistake.
	Reload(ctx context.Context) (Reloaded, error)
}

// Reloaded says what a reload changed. NeedsRestart names the keys that changed but can't while the node runs. Warnings
// say what went wrong although the configuration is applied: requests that were cut off, or that it couldn't be saved;
// and what in the file is valid but can hardly be meant.
type Reloaded struct {
	Revision     int64    `json:"config_revision"`
	NeedsRestart []string `json:"needs_restart"`
	Warnings     []string `json:"warnings,omitempty"`
}

// RefusedReload is the last reload, if it was refused: what was applied before still is.
type RefusedReload struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"` // every mistake, a line each
}

func reloadPage(node Reloader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		done, err := node.Reload(r.Context())
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		reply(w, http.StatusOK, done)
	}
}
