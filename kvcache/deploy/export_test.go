package deploy

import (
	"context"
	"time"
)

// SetGrace sets for how long Collect spares blobs that nobody names. The caller does it before Open, as with all of
// these.
func (s *Store) SetGrace(d time.Duration) { s.grace = d }

// SetLeave sets how long a deploy stays that needn't be kept.
func (s *Store) SetLeave(d time.Duration) { s.leave = d }

// SetReady sets for how long a change waits until the nodes have a deploy.
func (s *Store) SetReady(d time.Duration) { s.ready = d }

// SetFullFiles sets how many files of deploys that are only kept may be in memory.
func (s *Store) SetFullFiles(n int) { s.fullFiles = n }

// BucketName is the name of the bucket.
func (s *Store) BucketName() string { return s.bucket.name }

// Light reports whether only the hashed files of a deploy are in memory.
func (d *Deploy) Light() bool { return d.light }

// Heard reports whether the bucket was read since Open.
func (s *Store) Heard(ctx context.Context) (yes bool) {
	_ = s.do(ctx, func(f *follower) { yes = f.complete })
	return yes
}

// ApplyRecord applies a record to an empty table. It returns the key as it was understood.
func ApplyRecord(k string, value []byte) (again string, ok bool) {
	parsed, err := parseKey(k)
	if err != nil || parsed.kind == kindOther {
		return "", false
	}
	tablesOf([]update{{key: parsed, value: value, revision: 1}})
	return parsed.String(), true
}
