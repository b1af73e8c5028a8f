package ratelimit

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// limitForm is what the fields of one limit are written from.
type limitForm struct {
	form   node.HeaderForm
	name   string // as a quoted string
	policy string // of RateLimit-Policy, without the partition key
	window time.Duration
	jitter time.Duration // clients that all begin anew at one moment are told to come back at different ones
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

// appendFields adds what is left of the limits, in the form that each wants: RateLimit-Policy and RateLimit as
// draft-ietf-httpapi-ratelimit-headers-10 has them, which name all limits; or one of the older forms, which can tell of
// one: that with the least left. The older drafts have other values for the same fields, so only X-RateLimit can stand
// beside the newest form.
func (g *Grants) appendFields(h *mesh.Header) {
	newest := false
	for i := range g.list {
		newest = newest || g.list[i].tells(node.HeaderDraft8)
	}
	if newest {
		g.newestFields(h)
	}
	var least *grant
	for i := range g.list {
		p := &g.list[i]
		older := p.tells(node.HeaderLegacy) || (!newest && (p.tells(node.HeaderDraft7) || p.tells(node.HeaderDraft6)))
		if older && (least == nil || p.decision.Remaining < least.decision.Remaining) {
			least = p
		}
	}
	if least != nil {
		least.olderFields(h)
	}
}

// tells reports whether the client learns of the limit in this form.
func (p *grant) tells(form node.HeaderForm) bool { return p.limit.Headers == form && !p.limit.Shadow }

func (g *Grants) newestFields(h *mesh.Header) {
	var policyRoom [192]byte
	var leftRoom [64]byte
	policy, left := policyRoom[:0], leftRoom[:0]
	for i := range g.list {
		p := &g.list[i]
		if !p.tells(node.HeaderDraft8) {
			continue
		}
		if len(policy) > 0 {
			policy, left = append(policy, ", "...), append(left, ", "...)
		}
		policy = p.appendPolicy(policy)
		left = p.appendLeft(left)
	}
	n := len(policy)
	both := string(append(policy, left...)) // one allocation for two values
	h.Add("RateLimit-Policy", both[:n])
	h.Add("RateLimit", both[n:])
}

// appendPolicy writes the policy with its partition key: a hash, which tells a client whose requests count with its
// own.
func (p *grant) appendPolicy(b []byte) []byte {
	var short [12]byte
	hex.Encode(short[:], p.key[:6])
	b = append(append(b, p.limit.form.policy...), ";pk=:"...)
	return append(base64.StdEncoding.AppendEncode(b, short[:]), ':')
}

func (p *grant) appendLeft(b []byte) []byte {
	b = append(append(b, p.limit.form.name...), ";r="...)
	b = strconv.AppendUint(b, uint64(p.decision.Remaining), 10)
	if p.limit.form.window == 0 {
		return b
	}
	return strconv.AppendInt(append(b, ";t="...), wholeSeconds(p.decision.Reset), 10)
}

// wholeSeconds rounds up, so that nobody comes too early.
func wholeSeconds(d time.Duration) int64 { return int64((max(d, 0) + time.Second - 1) / time.Second) }

func (p *grant) olderFields(h *mesh.Header) {
	d := &p.decision
	limit, left, reset := strconv.FormatUint(uint64(d.Limit), 10), strconv.FormatUint(uint64(d.Remaining), 10),
		strconv.FormatInt(wholeSeconds(d.Reset), 10)
	switch p.limit.Headers {
	case node.HeaderDraft7:
		h.Set("RateLimit-Policy", p.limit.form.policy)
		h.Set("RateLimit", "limit="+limit+", remaining="+left+", reset="+reset)
	case node.HeaderDraft6:
		h.Set("RateLimit-Policy", p.limit.form.policy)
		h.Set("RateLimit-Limit", limit)
		h.Set("RateLimit-Remaining", left)
		h.Set("RateLimit-Reset", reset)
	case node.HeaderLegacy:
		h.Set("X-RateLimit-Limit", limit)
		h.Set("X-RateLimit-Remaining", left)
		h.Set("X-RateLimit-Reset", strconv.FormatInt(p.at.Add(d.Reset+time.Second-1).Unix(), 10))
	case node.HeaderDraft8, node.HeaderNone:
	}
}
