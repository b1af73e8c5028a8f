package mesh

// earlyCancels remembers the latest cancellations of requests that don't run here. A cancellation and its request come
// by different subscriptions, so the cancellation may arrive first. Most are for other members. The zero value is
// ready. Not safe for concurrent use.
type earlyCancels struct {
	nonces [128]string // ring buffer
	next   int
}

func (e *earlyCancels) add(nonce string) {
	e.nonces[e.next] = nonce
	e.next = (e.next + 1) % len(e.nonces)
}

// remove reports whether the request was canceled, and forgets the cancellation.
func (e *earlyCancels) remove(nonce string) bool {
	for i, n := range e.nonces {
		if n == nonce && n != "" {
			e.nonces[i] = ""
			return true
		}
	}
	return false
}
