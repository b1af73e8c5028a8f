package front

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dateCache holds the value of Date for the current second (RFC 9110 §6.6.1), so that it is formatted once a second and
// not for every response. The zero value is ready. It is safe for concurrent use.
type dateCache struct{ last atomic.Pointer[dated] }

type dated struct {
	second int64
	text   string
}

func (c *dateCache) now() string {
	now := time.Now()
	d := c.last.Load()
	if d == nil || d.second != now.Unix() {
		d = &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
		c.last.Store(d)
	}
	return d.text
}
