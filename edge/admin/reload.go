package admin

import (
	"context"
	"net/http"
	"time"
)

// Reloader is what the page reload needs of the node.
type Reloader interface {
	// Reload reads the configuration file again and applies it. The error is for the operator and names every mistake.
	Reload(ctx context.Context) (Reloaded, error)
}

// Reloaded is the answer to a reload. NeedsRestart names the changed keys that take effect at the next start only. The
// configuration is applied in spite of Warnings: that requests were cut off, that it couldn't be saved, or that
// something in the file is valid but probably a mistake.
type Reloaded struct {
	Revision     int64    `json:"config_revision"`
	NeedsRestart []string `json:"needs_restart"`
	Warnings     []string `json:"warnings,omitempty"`
}

// RefusedReload describes the last reload, if it was refused. The configuration before it stays in effect.
type RefusedReload struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"` // every mistake, one a line
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
