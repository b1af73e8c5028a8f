package natsservertest

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"time"
)

// LedSince returns when a node's log at debug level last says that its replica of a stream leads; the zero time if it
// never does.
func LedSince(log io.Reader, stream string) (last time.Time) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var said struct {
			Time time.Time
			Text string
		}
		if json.Unmarshal(lines.Bytes(), &said) == nil && strings.Contains(said.Text, "new stream leader") &&
			strings.Contains(said.Text, stream+"'") && said.Time.After(last) {
			last = said.Time
		}
	}
	return last
}
