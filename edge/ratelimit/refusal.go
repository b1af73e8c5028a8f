package ratelimit

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// quotaProblem is the body of a refusal (RFC 9457, with the problem type of draft-ietf-httpapi-ratelimit-headers).
type quotaProblem struct {
	exchange.Problem
	Violated []string `json:"violated-policies"`
}

const quotaExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"

// overLimit returns the 429 of a limit, with what remains of it and of the limits before it.
func overLimit(x *exchange.Exchange, gr grant) *mesh.Response {
	g := grantsOf(x)
	x.Outcome.OverLimit = gr.limit.rule.Name
	gr.decision.Remaining = 0
	for i := range g.list { // the caller gives these back
		g.list[i].decision.Remaining += g.list[i].limit.cost()
	}
	g.list = append(g.list, gr)
	status := http.StatusTooManyRequests
	b, err := json.Marshal(quotaProblem{
		Problem: exchange.Problem{
			Type: quotaExceeded, Title: "Request cannot be satisfied as assigned quota has been exceeded",
			Status: status,
			Detail: "there were more requests than the limit " + gr.limit.rule.Name +
				" allows: try again after the time in Retry-After", Code: node.CodeLimited,
			RequestID: x.ID,
		},
		Violated: []string{gr.limit.rule.Name},
	})
	if err != nil { // strings and a number always marshal
		b = []byte(`{"type":"` + quotaExceeded + `"}`)
	}
	resp := &mesh.Response{Status: status, Body: append(b, '\n'), Header: mesh.Header{
		{Name: "Content-Type", Value: "application/problem+json"}, {Name: "Cache-Control", Value: "no-store"},
	}}
	wait := gr.decision.Reset
	if jitter := gr.limit.form.jitter; jitter > 0 {
		wait += rand.N(jitter) //nolint:gosec // G404: no secret
	}
	resp.Header.Add("Retry-After", strconv.FormatInt(max(wholeSeconds(wait), 1), 10))
	x.EditOwn(&resp.Header)
	g.appendFields(&resp.Header)
	g.list = g.list[:len(g.list)-1]
	return resp
}
