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
	timed            int           // those that didn't fail, and those that were given up
	took             time.Duration // of the timed ones
}

// ending is how a request ended.
type result byte

const (
	resultAnswered  result = iota
	resultFailed           // the target spoiled it
	resultAbandoned        // nobody waited for its end: it tells of slowness, and neither of success nor of failure
)

func (w *window) record(now time.Time, how result, took time.Duration) {
	second := sinceEpoch(now) / int64(time.Second)
	const n = int64(len(w.buckets))
	b := &w.buckets[(second%n+n)%n]
	if b.second != second {
		*b = bucket{second: second}
	}
	switch how {
	case resultFailed:
		b.requests++
		b.failed++
		return
	case resultAnswered:
		b.requests++
	case resultAbandoned:
	}
	b.timed++
	b.took += took
}

func (w *window) sums(now time.Time) (s sums) {
	second := sinceEpoch(now) / int64(time.Second)
	for _, b := range w.buckets {
		if second-b.second < int64(len(w.buckets)) {
			s.requests += b.requests
			s.failed += b.failed
			s.timed += b.timed
			s.took += b.took
		}
	}
	return s
}

// mean is the average time of the requests that were timed, 0 without any.
func (s sums) mean() time.Duration {
	if s.timed == 0 {
		return 0
	}
	return s.took / time.Duration(s.timed)
}
