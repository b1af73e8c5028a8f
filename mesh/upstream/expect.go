package upstream

import (
	"errors"
	"sync"
	"time"
)

// continueWithin is how long the body of a request that expects 100 Continue is delayed. A target may not know the
// expectation, and then waits for the body (RFC 9110 §10.1.1).
const continueWithin = time.Second

var errUnwanted = errors.New("the target answered without the body")

// expectation delays a request's body until the target says 100 Continue, answers, or is silent for continueWithin. It
// is safe for concurrent use.
type expectation struct {
	once    sync.Once
	decided chan struct{}
	wanted  bool // set before decided is closed
}

func newExpectation() *expectation { return &expectation{decided: make(chan struct{})} }

// decide says whether the body is wanted. Only the first call counts. A nil expectation is ignored.
func (e *expectation) decide(wanted bool) {
	if e != nil {
		e.once.Do(func() {
			e.wanted = wanted
			close(e.decided)
		})
	}
}

// await waits until the body may be sent, or returns why it isn't.
func (e *expectation) await() error {
	if e == nil {
		return nil
	}
	timer := time.NewTimer(continueWithin)
	defer timer.Stop()
	select {
	case <-e.decided:
	case <-timer.C:
		e.decide(true)
		<-e.decided // another decision may have been first
	}
	if !e.wanted {
		return errUnwanted
	}
	return nil
}
