package node

import (
	"errors"
	"fmt"
	"strings"
)

// Code says what went wrong with a request, independent of transport. The edge translates it to an HTTP
// status, mesh to and from replies; nobody else does.
type Code string

// The codes, with the HTTP status that the edge gives them.
const (
	CodeInvalid        Code = "invalid_request"    // 400: the request breaks the protocol
	CodeForbidden      Code = "forbidden"          // 403: this client may not do it
	CodeNotFound       Code = "not_found"          // 404: no route
	CodeMethod         Code = "method_not_allowed" // 405: the path has routes, the method none
	CodeTooLarge       Code = "body_too_large"     // 413: more bytes than route or mesh carry
	CodeURITooLong     Code = "uri_too_long"       // 414
	CodeLimited        Code = "rate_limited"       // 429: more requests than a limit allows
	CodeHeaderTooLarge Code = "header_too_large"   // 431
	CodeNotImplemented Code = "not_implemented"    // 501: the request needs what isn't done here
	CodeInternal       Code = "internal"           // 500: a bug; the cause is in the log
	CodeUpstream       Code = "upstream_failed"    // 502: an upstream broke off or can't be reached
	CodeBadReply       Code = "bad_reply"          // 502: a member answered what isn't a valid reply
	CodeNoMember       Code = "no_member"          // 503: nobody subscribes to the subject
	CodeBusy           Code = "busy"               // 503: every member, or this node, is at its limit
	CodeNoTarget       Code = "no_healthy_target"  // 503: every target of the upstream fails its health check
	CodeUnavailable    Code = "unavailable"        // 503: the mesh connection is away
	CodeSlowClient     Code = "slow_client"        // 408: the request took too long to arrive
	CodeExpectation    Code = "expectation_failed" // 417
	CodeLoop           Code = "loop_detected"      // 508: the request has passed this node before
	CodeTimeout        Code = "timeout"            // 504: no answer within the deadline
	CodeCanceled       Code = "canceled"           // the client went away; nobody reads the answer
)

// Error is a failed request. Text is safe to show to a client: it holds nothing of the request and nothing of
// the inside. Err is the cause, for the operator only.
type Error struct {
	Code Code
	Text string
	Err  error

	// Unreached says that nobody has seen anything of the request, so that it can't be to blame.
	Unreached bool
	// Failure says more of what went wrong than Code does; empty if nothing more is known.
	Failure Failure
}

// Errorf makes an Error with a client-safe text and the cause for the operator (nil if there is none).
func Errorf(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...), Err: cause}
}

// Error names the code, the safe text and the cause, which may end the text already: it is meant for logs.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Text
	if e.Err == nil {
		return s
	}
	if cause := e.Err.Error(); !strings.HasSuffix(e.Text, cause) {
		s += ": " + cause
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf gives the code of the first *Error in err's chain, CodeInternal for any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
