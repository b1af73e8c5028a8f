package mesh

// early remembers the newest cancellations of requests that don't run here: a cancellation and its request come by
// different subscriptions, so one that follows at once may overtake it. Most are other members' business. The zero
// value is ready; it isn't safe for concurrent use.
type earlyCancels struct {
	nonces [128]string // a ring
	next   int
}

func (e *earlyCancels) add(nonce string) {
	e.nonces[e.next] = nonce
	e.next = (e.next + 1) % len(e.nonces)
}

// take reports whether the request was canceled, once.
func (e *earlyCancels) remove(nonce string) bool {
	for i, n := range e.nonces {
		if n == nonce && n != "" {
			e.nonces[i] = ""
			return true
		}
	}
	return false
}
