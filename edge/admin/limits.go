package admin

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Limiter is what the page limits needs of the node. Its methods are for the limit of that name, or for all limits if
// name is empty. The error is ErrNoLimit if no limit has the name.
type Limiter interface {
	// LimitUsage returns what is known of a client's key.
	LimitUsage(ctx context.Context, name, key string) ([]LimitUsage, error)
	// ResetLimit resets the counts of a client's key to zero, and returns the names of the limits.
	ResetLimit(ctx context.Context, name, key string) ([]string, error)
}

// LimitUsage is what is known of one key of a limit.
type LimitUsage struct {
	Limit  string     `json:"limit"`
	Key    string     `json:"key"`
	Max    uint32     `json:"max"`
	Spent  uint32     `json:"spent"`
	Held   uint32     `json:"held"`             // permits that nodes hold and haven't spent
	Resets *time.Time `json:"resets,omitempty"` // when nothing will count as spent any more
}

// LimitReset is the answer to a reset: the limits for which the key was reset.
type LimitReset struct {
	Key    string   `json:"key"`
	Limits []string `json:"limits"`
}

// ErrNoLimit means that no limit has the name.
var ErrNoLimit = errors.New("no limit has the name")

// limitTimeout bounds a request to the store and the other nodes.
const limitTimeout = 10 * time.Second

// limitsPage serves /v1/limits/{limit}/{key}, and /v1/limits?key= for all limits.
func limitsPage(node Limiter) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, key := r.PathValue("limit"), r.PathValue("key")
		if key == "" {
			key = r.URL.Query().Get("key")
		}
		if key == "" {
			refuse(w, http.StatusBadRequest, "name the key: /v1/limits/LIMIT/KEY, or /v1/limits?key=KEY for all limits")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), limitTimeout)
		defer cancel()
		out, err := askLimits(ctx, node, r.Method, name, key)
		switch {
		case errors.Is(err, ErrNoLimit):
			refuse(w, http.StatusNotFound, err.Error())
		case err != nil:
			refuse(w, http.StatusServiceUnavailable, err.Error())
		default:
			reply(w, http.StatusOK, out)
		}
	}
}

// askLimits resets the key if the method is DELETE; otherwise it returns the key's usage.
func askLimits(ctx context.Context, node Limiter, method, name, key string) (any, error) {
	if method == http.MethodDelete {
		done, err := node.ResetLimit(ctx, name, key)
		return LimitReset{Key: key, Limits: done}, err
	}
	return node.LimitUsage(ctx, name, key)
}
