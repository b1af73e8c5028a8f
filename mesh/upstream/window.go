package upstream

import "time"

// window sums a target's results of the last ten seconds. The zero value is ready. It isn't safe for concurrent use.
type window struct{ buckets [10]bucket }

// bucket holds the sums of one second.
type bucket struct {
	second int64
	sums
}

// sums counts requests by result.
type sums struct {
	requests, failed int
	timed            int           // requests that were answered or abandoned
	took             time.Duration // total time of those
}

// result is how a request ended.
type result byte

const (
	resultAnswered  result = iota
	resultFailed           // the target failed it
	resultAbandoned        // given up: shows slowness, but neither success nor failure
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

// mean is the average time of the requests that were timed, or 0 if none was.
func (s sums) mean() time.Duration {
	if s.timed == 0 {
		return 0
	}
	return s.took / time.Duration(s.timed)
}
