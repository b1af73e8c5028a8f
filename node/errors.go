package node

import (
	"errors"
	"fmt"
	"strings"
)

// Code says what went wrong with a request, independent of the transport. Only the edge translates it to an HTTP
// status, and only the mesh to and from replies.
type Code string

// The codes, with the HTTP status that the edge gives them.
const (
	CodeInvalid        Code = "invalid_request"    // 400: the request violates the protocol
	CodeForbidden      Code = "forbidden"          // 403: this client isn't allowed to do it
	CodeNotFound       Code = "not_found"          // 404: no route
	CodeMethod         Code = "method_not_allowed" // 405: there are routes for the path, but not for the method
	CodeTooLarge       Code = "body_too_large"     // 413: the body is larger than the route or the mesh allows
	CodeURITooLong     Code = "uri_too_long"       // 414
	CodeLimited        Code = "rate_limited"       // 429: a limit is exceeded
	CodeHeaderTooLarge Code = "header_too_large"   // 431
	CodeNotImplemented Code = "not_implemented"    // 501: the request needs something that isn't implemented
	CodeInternal       Code = "internal"           // 500: a bug; the cause is in the log
	CodeUpstream       Code = "upstream_failed"    // 502: an upstream can't be reached, or broke off
	CodeBadReply       Code = "bad_reply"          // 502: a member's reply isn't valid
	CodeNoMember       Code = "no_member"          // 503: nobody subscribes to the subject
	CodeBusy           Code = "busy"               // 503: every member, or this node, is at its limit
	CodeNoTarget       Code = "no_healthy_target"  // 503: every target of the upstream fails its health check
	CodeUnavailable    Code = "unavailable"        // 503: the mesh connection is away
	CodeSiteEmpty      Code = "site_empty"         // 503: nothing has been published to the site yet
	CodeSlowClient     Code = "slow_client"        // 408: the request took too long to arrive
	CodeExpectation    Code = "expectation_failed" // 417
	CodeLoop           Code = "loop_detected"      // 508: the request has been at this node before
	CodeTimeout        Code = "timeout"            // 504: no response within the deadline
	CodeCanceled       Code = "canceled"           // the client disconnected; nobody reads the response
)

// Error is a failed request. Text is safe to show to a client: it contains nothing of the request and no internals. Err
// is the cause, for the operator only.
type Error struct {
	Code Code
	Text string
	Err  error

	// Unreached means that no target has seen any part of the request, so that the request can't be the reason.
	Unreached bool
	// Failure describes the failure more precisely than Code; empty if nothing more is known.
	Failure Failure
}

// Errorf returns an Error with a client-safe text, and the cause for the operator (nil if there is none).
func Errorf(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...), Err: cause}
}

// Error returns the code, the safe text and the cause, unless the text already ends in the cause. It is meant for logs.
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

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, CodeInternal for any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
