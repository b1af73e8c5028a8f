package ratelimit

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// limitForm holds what the response fields of one limit are made of.
type limitForm struct {
	form   node.HeaderForm
	name   string // as a quoted string
	policy string // value for RateLimit-Policy, without the partition key
	window time.Duration
	jitter time.Duration // spreads Retry-After, if the windows of all clients end at the same time
}

func newLimitForm(name string, l node.Limit) limitForm {
	f := limitForm{form: l.Headers, name: strconv.Quote(name), window: l.Window.Length}
	quota := strconv.Itoa(l.Room())
	seconds := strconv.FormatInt(wholeSeconds(l.Window.Length), 10)
	switch {
	case l.Headers != node.HeaderDraft8 && l.Algorithm == node.AlgorithmConcurrent:
		f.policy = quota
	case l.Headers != node.HeaderDraft8:
		f.policy = quota + ";w=" + seconds
	case l.Algorithm == node.AlgorithmConcurrent:
		f.policy = f.name + ";q=" + quota + `;qu="concurrent-requests"`
	default:
		f.policy = f.name + ";q=" + quota + ";w=" + seconds
	}
	if l.Align == node.AlignClock || l.Window.Calendar != "" {
		f.jitter = min(l.Window.Length/10, 30*time.Second)
	}
	return f
}

// appendFields adds what remains of the limits, in the form that each is configured for. The newest form is
// RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-10, which name all limits. The older forms
// name one limit: that with the least remaining. The older drafts have other values for the same fields, so only
// X-RateLimit is sent together with the newest form.
func (g *Grants) appendFields(h *mesh.Header) {
	newest := false
	for i := range g.list {
		newest = newest || g.list[i].usesForm(node.HeaderDraft8)
	}
	if newest {
		g.newestFields(h)
	}
	var least *grant
	for i := range g.list {
		gr := &g.list[i]
		older := gr.usesForm(node.HeaderLegacy) ||
			(!newest && (gr.usesForm(node.HeaderDraft7) || gr.usesForm(node.HeaderDraft6)))
		if older && (least == nil || gr.decision.Remaining < least.decision.Remaining) {
			least = gr
		}
	}
	if least != nil {
		least.olderFields(h)
	}
}

// usesForm reports whether the limit is sent to clients, and in this form.
func (gr *grant) usesForm(form node.HeaderForm) bool {
	return gr.limit.Headers == form && !gr.limit.Shadow
}

func (g *Grants) newestFields(h *mesh.Header) {
	var policyScratch [192]byte
	var remainingScratch [64]byte
	policy, remaining := policyScratch[:0], remainingScratch[:0]
	for i := range g.list {
		gr := &g.list[i]
		if !gr.usesForm(node.HeaderDraft8) {
			continue
		}
		if len(policy) > 0 {
			policy, remaining = append(policy, ", "...), append(remaining, ", "...)
		}
		policy = gr.appendPolicy(policy)
		remaining = gr.appendRemaining(remaining)
	}
	n := len(policy)
	both := string(append(policy, remaining...)) // one allocation for two values
	h.Add("RateLimit-Policy", both[:n])
	h.Add("RateLimit", both[n:])
}

// appendPolicy appends the policy with its partition key: a hash, by which a client can see which of its requests are
// counted together.
func (gr *grant) appendPolicy(b []byte) []byte {
	var short [12]byte
	hex.Encode(short[:], gr.key[:6])
	b = append(append(b, gr.limit.form.policy...), ";pk=:"...)
	return append(base64.StdEncoding.AppendEncode(b, short[:]), ':')
}

func (gr *grant) appendRemaining(b []byte) []byte {
	b = append(append(b, gr.limit.form.name...), ";r="...)
	b = strconv.AppendUint(b, uint64(gr.decision.Remaining), 10)
	if gr.limit.form.window == 0 {
		return b
	}
	return strconv.AppendInt(append(b, ";t="...), wholeSeconds(gr.decision.Reset), 10)
}

// wholeSeconds rounds up, so that clients don't come back too early.
func wholeSeconds(d time.Duration) int64 { return int64((max(d, 0) + time.Second - 1) / time.Second) }

func (gr *grant) olderFields(h *mesh.Header) {
	d := &gr.decision
	limit, left, reset := strconv.FormatUint(uint64(d.Limit), 10), strconv.FormatUint(uint64(d.Remaining), 10),
		strconv.FormatInt(wholeSeconds(d.Reset), 10)
	switch gr.limit.Headers {
	case node.HeaderDraft7:
		h.Set("RateLimit-Policy", gr.limit.form.policy)
		h.Set("RateLimit", "limit="+limit+", remaining="+left+", reset="+reset)
	case node.HeaderDraft6:
		h.Set("RateLimit-Policy", gr.limit.form.policy)
		h.Set("RateLimit-Limit", limit)
		h.Set("RateLimit-Remaining", left)
		h.Set("RateLimit-Reset", reset)
	case node.HeaderLegacy:
		h.Set("X-RateLimit-Limit", limit)
		h.Set("X-RateLimit-Remaining", left)
		h.Set("X-RateLimit-Reset", strconv.FormatInt(gr.at.Add(d.Reset+time.Second-1).Unix(), 10))
	case node.HeaderDraft8, node.HeaderNone:
	}
}
