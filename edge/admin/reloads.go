package admin

import "time"

// RefusedReload is the last reload, if it was refused: what was applied before still is.
type RefusedReload struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"` // every mistake, a line each
}
