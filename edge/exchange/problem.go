package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// StatusOf returns the HTTP status of an error code. Codes become statuses nowhere else.
func StatusOf(code node.Code) int {
	switch code {
	case node.CodeInvalid:
		return 400
	case node.CodeForbidden:
		return 403
	case node.CodeNotFound:
		return 404
	case node.CodeMethod:
		return 405
	case node.CodeSlowClient:
		return 408
	case node.CodeTooLarge:
		return 413
	case node.CodeURITooLong:
		return 414
	case node.CodeExpectation:
		return 417
	case node.CodeLimited:
		return 429
	case node.CodeHeaderTooLarge:
		return 431
	case node.CodeNotImplemented:
		return 501
	case node.CodeUpstream, node.CodeBadReply:
		return 502
	case node.CodeNoMember, node.CodeBusy, node.CodeNoTarget, node.CodeUnavailable, node.CodeSiteEmpty:
		return 503
	case node.CodeLoop:
		return 508
	case node.CodeTimeout:
		return 504
	case node.CodeCanceled:
		return 499 // for the log: the client has gone
	case node.CodeInternal:
		return 500
	}
	return 500
}

var titles = map[int]string{
	400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
	413: "Content Too Large",
	414: "URI Too Long", 417: "Expectation Failed", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
	499: "Client Closed Request", 500: "Internal Server Error",
	501: "Not Implemented",
	502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout", 508: "Loop Detected",
}

// Problem is the body of a generated error (RFC 9457). Type is about:blank, so Title is the status's own name.
type Problem struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail"`
	Code      node.Code `json:"code"`
	RequestID string    `json:"request_id,omitempty"`
}

// ProblemResponse returns the response for an error. The client gets no text but that of a node.Error, which is safe.
// An error with a method Fields(*mesh.Header) adds its own fields in place of Proxy-Status.
func ProblemResponse(err error, id string) *mesh.Response {
	var e *node.Error
	if !errors.As(err, &e) {
		e = node.Errorf(node.CodeInternal, err, "the request failed inside the gateway")
	}
	status := StatusOf(e.Code)
	resp := &mesh.Response{Status: status, Header: mesh.Header{
		{Name: "Content-Type", Value: "application/problem+json"}, {Name: "Cache-Control", Value: "no-store"},
	}}
	resp.Body = problemBody(Problem{
		Type: "about:blank", Title: titles[status], Status: status, Detail: e.Text,
		Code: e.Code, RequestID: id,
	})
	if status == 503 {
		resp.Header.Add("Retry-After", strconv.Itoa(retryAfterSeconds))
	}
	var own interface{ Fields(h *mesh.Header) }
	if errors.As(err, &own) {
		own.Fields(&resp.Header)
	} else if kind := proxyError(e); kind != "" {
		resp.Header.Add("Proxy-Status", "Millrace; error="+string(kind))
	}
	return resp
}

// proxyError returns the error's type for Proxy-Status (RFC 9209 §2.3) if it happened behind this node, else "".
func proxyError(e *node.Error) node.Failure {
	if e.Failure != "" {
		return e.Failure
	}
	switch e.Code { //nolint:exhaustive // the other codes are the client's errors
	case node.CodeUpstream:
		return node.FailureTerminated
	case node.CodeBadReply:
		return node.FailureProtocol
	case node.CodeNoMember, node.CodeNoTarget, node.CodeUnavailable:
		return node.FailureUnavailable
	case node.CodeBusy:
		return node.FailureConnectionLimit
	case node.CodeTimeout:
		return node.FailureTimeout
	case node.CodeLoop:
		return node.FailureLoop
	case node.CodeInternal:
		return node.FailureInternal
	}
	return ""
}

// BusyMessage returns a whole 503 message in HTTP/1.1, for a connection beyond the limit. It is sent before any request
// is read.
func BusyMessage() []byte {
	r := ProblemResponse(node.Errorf(node.CodeBusy, nil,
		"the node has as many connections as it may, of all clients or of this one"), "")
	var b strings.Builder
	b.WriteString("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: " +
		strconv.Itoa(len(r.Body)) + "\r\n")
	for _, f := range r.Header {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	return []byte(b.String() + "\r\n" + string(r.Body))
}

// retryAfterSeconds is the Retry-After of a 503.
const retryAfterSeconds = 1

func problemBody(p Problem) []byte {
	b, err := json.Marshal(p)
	if err != nil { // strings and a number always marshal
		return []byte(`{"type":"about:blank"}`)
	}
	return append(b, '\n')
}

// fieldsError is an error whose response has fields of its own.
type fieldsError struct {
	error

	fields mesh.Header
}

func (e *fieldsError) Unwrap() error { return e.error }

// WithFields wraps err so that its response has the fields too. The route's response rules don't apply to them.
func WithFields(err error, fields mesh.Header) error {
	if len(fields) == 0 {
		return err
	}
	return &fieldsError{err, fields}
}

// Problems wraps next so that an error comes with a response: that of ProblemResponse, edited by the route's response
// rules. The error is returned too, for logs and events.
func Problems(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		if err == nil {
			return resp, nil
		}
		resp = ProblemResponse(err, x.ID)
		if x.Outcome.Allow != "" {
			resp.Header.Add("Allow", x.Outcome.Allow)
		}
		if x.Outcome.Cache.Fwd != "" {
			resp.Header.Add("Cache-Status", string(x.Outcome.Cache.Append(nil)))
		}
		x.EditOwn(&resp.Header)
		if own, ok := errors.AsType[*fieldsError](err); ok {
			resp.Header = append(resp.Header, own.fields...)
		}
		return resp, err
	}
}
