package cache

import (
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// result is what a fetch produced. It is one of growingResult, storedResult, ownResult, failedResult and retryResult.
// It is nil in two cases: for a request that waited, if the fetch left nothing for it; and at the end of a fetch whose
// growingResult has been handed out before.
type result interface {
	// forWaiting returns the result for the requests that waited for the fetch. The request that began it gets the
	// result itself.
	forWaiting() result
}

// growingResult is a response whose body is still arriving.
type growingResult struct{ *growing }

// storedResult is a response that is in the store now. The request looks it up again.
type storedResult struct {
	status httpcache.Status
	anyway bool           // it may be served even if it is stale
	own    *mesh.Response // the response itself, for the request that began the fetch; nil if that looks it up as well
}

// ownResult is a response that isn't stored. Only the request that began the fetch gets it.
type ownResult struct {
	resp   *mesh.Response
	status httpcache.Status
}

// failedResult means that the fetch has no response: the origin gave none, or the fetch panicked.
type failedResult struct{ err error }

// retryResult means that the origin gave one request no answer, which says nothing of others: they try again.
type retryResult struct{}

func (r growingResult) forWaiting() result { return r }

func (r storedResult) forWaiting() result {
	r.own = nil
	return r
}

func (ownResult) forWaiting() result { return nil }

// forWaiting shares a failure only if no origin was reached, so that any request would have failed. If an origin was
// reached and gave no answer, the others try again. Of an error about the request itself they get nothing.
func (r failedResult) forWaiting() result {
	switch {
	case unreached(r.err):
		return r
	case noAnswer(r.err):
		return retryResult{}
	}
	return nil
}

func (r retryResult) forWaiting() result { return r }

// responseOf returns the response that only the request that began the fetch may use; nil if there is none.
func responseOf(r result) *mesh.Response {
	switch r := r.(type) {
	case storedResult:
		return r.own
	case ownResult:
		return r.resp
	}
	return nil
}
