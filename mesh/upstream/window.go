package upstream

import "time"

// window sums what a target did within the last ten seconds. The zero value is ready; it isn't safe for concurrent use.
type window struct{ buckets [10]bucket }

// bucket is one second.
type bucket struct {
	second int64
	sums
}

// sums is how requests ended.
type sums struct {
	requests, failed int
	took             time.Duration // of those that didn't fail
}

func (w *window) add(now time.Time, failed bool, took time.Duration) {
	second := now.Unix()
	b := &w.buckets[second%int64(len(w.buckets))]
	if b.second != second {
		*b = bucket{second: second}
	}
	b.requests++
	if failed {
		b.failed++
	} else {
		b.took += took
	}
}

func (w *window) sums(now time.Time) (s sums) {
	for _, b := range w.buckets {
		if now.Unix()-b.second < int64(len(w.buckets)) {
			s.requests += b.requests
			s.failed += b.failed
			s.took += b.took
		}
	}
	return s
}

// mean is the average time of the requests that didn't fail, 0 without any.
func (s sums) mean() time.Duration {
	if s.requests == s.failed {
		return 0
	}
	return s.took / time.Duration(s.requests-s.failed)
}
