package embedded

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"millrace/kvcache"
	"millrace/node"
)

// The error of a purge says whether the purge counts, and what to do; on a full disk that is to free space.
func TestPurgeErrorsSayWhatToDo(t *testing.T) {
	p := &purges{cfg: &node.Config{Node: node.Node{Data: "/data"}}, storage: &storage{}}
	unnoted := fmt.Errorf("%w (%w)", kvcache.ErrUnnoted, errors.New("database or disk is full"))
	for _, c := range []struct {
		failed     error // of the disk
		cause      error
		want, lack string
	}{
		{syscall.ENOSPC, unnoted, "make room on the disk of /data", "away"},
		{syscall.ENOSPC, kvcache.ErrAway, "the disk of /data is full: make room", "JetStream"},
		{nil, kvcache.ErrAway, "try again when JetStream is current", "room"},
	} {
		p.storage.writeErr = c.failed
		err := p.advise(c.cause)
		text := err.Error()
		if !strings.Contains(text, c.want) || strings.Contains(text, c.lack) || !errors.Is(err, c.cause) {
			t.Errorf("%v on a disk with %v: %s", c.cause, c.failed, text)
		}
	}
}

// For a disk that is too small, the preflight has the same warning as the running node.
func TestPreflightWarnsLikeTheNode(t *testing.T) {
	cfg := node.Default()
	cfg.Node.Data = t.TempDir()
	cfg.Cache.Disk = 1 << 50
	cfg.Routes = []node.Route{{Name: "a", Cache: &node.Cache{On: true}}}
	var p Preflight
	p.checkDisk(&cfg)
	if told := strings.Join(p.Warnings, "\n"); !strings.Contains(told, tooSmall(&cfg, configuredSizes(&cfg))) {
		t.Errorf("got %q", told)
	}
}
