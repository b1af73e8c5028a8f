package front

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dateCache is the Date field's text of the current second (RFC 9110 §6.6.1): made once a second, read by every
// response. The zero value is ready.
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
