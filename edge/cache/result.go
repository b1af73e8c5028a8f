package cache

import (
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// result is what a fetch gave. It is one of growingResult, storedResult, ownResult, failedResult and retryResult, and
// nil if it gave nothing that another request can use.
type result interface {
	// forWaiting is what the requests get that waited for the fetch; the one that began it gets the result itself.
	forWaiting() result
}

// growingResult is a response whose body is still coming.
type growingResult struct{ *growing }

// storedResult is a response that is in the store: look again.
type storedResult struct {
	status httpcache.Status
	anyway bool           // it is good enough, stale or not
	own    *mesh.Response // the same for the request that began the fetch; nil if it looks again too
}

// ownResult is a response that isn't stored, for the request that began the fetch.
type ownResult struct {
	resp   *mesh.Response
	status httpcache.Status
}

// failedResult says that the origin has no answer.
type failedResult struct{ err error }

// retryResult says that one request has failed, which says nothing of others.
type retryResult struct{}

func (r growingResult) forWaiting() result { return r }

func (r storedResult) forWaiting() result {
	r.own = nil
	return r
}

func (ownResult) forWaiting() result { return nil }

// forWaiting tells others of a failure only if nobody was there to answer, whatever the request: it may be this one
// request that fails.
func (r failedResult) forWaiting() result {
	switch {
	case nobody(r.err):
		return r
	case unreachable(r.err):
		return retryResult{}
	}
	return nil
}

func (r retryResult) forWaiting() result { return r }

// responseOf gives the response that only the request that began the fetch has; nil if there is none.
func responseOf(r result) *mesh.Response {
	switch r := r.(type) {
	case storedResult:
		return r.own
	case ownResult:
		return r.resp
	}
	return nil
}
