package admin

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// LimitUsage is what is known of one key of a limit.
type LimitUsage struct {
	Limit  string     `json:"limit"`
	Key    string     `json:"key"`
	Max    uint32     `json:"max"`
	Spent  uint32     `json:"spent"`
	Held   uint32     `json:"held"`             // permits that nodes hold, unspent
	Resets *time.Time `json:"resets,omitempty"` // when it will be as if nothing had been spent
}

// LimitReset says for which limits a key was reset.
type LimitReset struct {
	Key    string   `json:"key"`
	Limits []string `json:"limits"`
}

// ErrNoLimit means that no limit has the name.
var ErrNoLimit = errors.New("no limit has the name")

// limitPatience bounds a question to the store and the other nodes.
const limitPatience = 10 * time.Second

// limits serves /v1/limits/{limit}/{key}, and /v1/limits?key= for all limits.
func (s *Server) limits(w http.ResponseWriter, r *http.Request) {
	name, key := r.PathValue("limit"), r.PathValue("key")
	if key == "" {
		key = r.URL.Query().Get("key")
	}
	if key == "" {
		refuse(w, http.StatusBadRequest, "name the key: /v1/limits/LIMIT/KEY, or /v1/limits?key=KEY for all limits")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limitPatience)
	defer cancel()
	var out any
	var err error
	if r.Method == http.MethodDelete {
		var done []string
		done, err = s.operator.ResetLimit(ctx, name, key)
		out = LimitReset{Key: key, Limits: done}
	} else {
		out, err = s.operator.LimitUsage(ctx, name, key)
	}
	switch {
	case errors.Is(err, ErrNoLimit):
		refuse(w, http.StatusNotFound, err.Error())
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, err.Error())
	default:
		reply(w, http.StatusOK, out)
	}
}
