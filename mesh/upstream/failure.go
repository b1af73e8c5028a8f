package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// failure is a kind of failure of a request at a target: its name in the log, its code, its type for Proxy-Status, and
// a text for the client, which names no address.
type failure struct {
	kind        string
	code        node.Code
	proxyStatus node.Failure
	text        string
}

var (
	failureNodeLimit = &failure{
		"own_limit", node.CodeBusy, node.FailureConnectionLimit,
		"the node has no file descriptor or port left for the upstream",
	}
	failureNodeClosed = &failure{
		"own_cut", node.CodeUnavailable, node.FailureInternal,
		"the node ended the request before the upstream answered",
	}
	failureName = &failure{
		"name", node.CodeUpstream, node.FailureName, "the upstream's host name can't be resolved",
	}
	failureNameTimeout = &failure{
		"name_timeout", node.CodeTimeout, node.FailureNameTimeout, "the upstream's host name wasn't resolved in time",
	}
	failureRefused = &failure{
		"refused", node.CodeUpstream, node.FailureRefused, "the upstream refused the connection",
	}
	failureConnectTimeout = &failure{
		"connect_timeout", node.CodeTimeout, node.FailureConnectTimeout,
		"no connection to the upstream came about in time",
	}
	failureCertificate = &failure{
		"certificate", node.CodeUpstream, node.FailureCertificate, "the upstream's certificate isn't valid",
	}
	failureTLSAlert = &failure{
		"tls_alert", node.CodeUpstream, node.FailureAlert, "the upstream refused the TLS connection",
	}
	failureTLS = &failure{
		"tls", node.CodeUpstream, node.FailureTLS, "no TLS connection to the upstream came about",
	}
	failureUnreachable = &failure{
		"unreachable", node.CodeUpstream, node.FailureUnroutable, "the upstream can't be reached",
	}
	failureTimeout = &failure{
		"timeout", node.CodeTimeout, node.FailureTimeout, "the upstream didn't answer in time",
	}
	failureTooLarge = &failure{
		"too_large", node.CodeUpstream, node.FailureHeadSize, "the head of the upstream's response is too large",
	}
	failureCoding = &failure{
		"coding", node.CodeUpstream, node.FailureCoding,
		"the upstream's response is in a transfer coding that isn't known",
	}
	failureUpgrade = &failure{
		"upgrade", node.CodeUpstream, node.FailureUpgrade, "the upstream upgraded to a protocol that wasn't asked for",
	}
	failureMalformed = &failure{
		"malformed", node.CodeUpstream, node.FailureProtocol, "the upstream's response is malformed",
	}
	failureNoAnswer = &failure{
		"no_answer", node.CodeUpstream, node.FailureTerminated, "the upstream closed the connection without an answer",
	}
	failureReset = &failure{
		"reset", node.CodeUpstream, node.FailureTerminated, "the upstream reset the connection",
	}
	failureIncomplete = &failure{
		"cut_off", node.CodeUpstream, node.FailureIncomplete, "the upstream broke off in the middle of its response",
	}
	failureBroken = &failure{
		"broken", node.CodeUpstream, node.FailureTerminated, "the connection to the upstream broke",
	}
)

// Phases of a request, wrapped in its error.
var (
	errConnect  = errors.New("connect")
	errTLS      = errors.New("TLS")
	errNoAnswer = errors.New("it was closed without an answer")
)

// failureOf classifies an error of a request at a target.
func failureOf(err error) *failure {
	switch {
	case isNodeLimit(err):
		return failureNodeLimit
	case isNodeClose(err):
		return failureNodeClosed
	case errors.Is(err, errConnect):
		return connectFailure(err)
	case errors.Is(err, errHeadTooLarge) || errors.Is(err, http1.ErrFieldCount):
		return failureTooLarge
	case errors.Is(err, errCoding):
		return failureCoding
	case errors.Is(err, errUpgrade):
		return failureUpgrade
	case errors.Is(err, errBroken):
		return failureMalformed
	case isTimeout(err):
		return failureTimeout
	case errors.Is(err, errNoAnswer):
		return failureNoAnswer
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return failureReset
	case errors.Is(err, io.ErrUnexpectedEOF):
		return failureIncomplete
	}
	return failureBroken
}

// connectFailure classifies an error to connect.
func connectFailure(err error) *failure {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsTimeout || isTimeout(err) {
			return failureNameTimeout
		}
		return failureName
	}
	if isTimeout(err) {
		return failureConnectTimeout
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failureCertificate
	}
	switch {
	case errors.Is(err, errTLS) && isTLSAlert(err):
		return failureTLSAlert
	case errors.Is(err, errTLS):
		return failureTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return failureRefused
	}
	return failureUnreachable
}

// isTLSAlert reports whether the target ended the handshake with an alert.
func isTLSAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // crypto/tls has no type for it
}

// isNodeClose reports whether the node itself closed the connection. Only the node closes one that is in use: when it
// stops, or when the target is removed from the configuration.
func isNodeClose(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, errRemoved) }

// isNodeLimit reports whether the node itself couldn't connect, for lack of file descriptors, memory or ports. That
// isn't a target's fault.
func isNodeLimit(err error) bool {
	if !errors.Is(err, errConnect) {
		return false
	}
	for _, limit := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, limit) {
			return true
		}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok { // its cause is only a text
		return outOfDescriptors()
	}
	return errors.Is(err, syscall.EADDRNOTAVAIL) && toIPv4(err) // for IPv6 the host may lack such an address
}

// outOfDescriptors reports whether the process can open no more files.
func outOfDescriptors() bool {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	}
	_ = f.Close() // nothing was written
	return false
}

func toIPv4(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return false
	}
	to, ok := op.Addr.(*net.TCPAddr)
	return ok && to.IP.To4() != nil
}

// callError returns the error for the last outcome of a call, and logs it.
func (u *Upstream) callError(ctx context.Context, req *mesh.Request, last outcome) error {
	if e, ok := errors.AsType[*node.Error](last.err); ok {
		return e
	}
	if errors.Is(last.err, errRequestBody) || errors.Is(ctx.Err(), context.Canceled) {
		return node.Errorf(node.CodeCanceled, last.err, "the request was canceled")
	}
	e := last.by.reportFailure(ctx, req, last.err)
	e.Unreached = !last.reached && !isNodeLimit(last.err)
	return e
}

// reportFailure logs why the target failed a request, unless the same was logged just before, and returns the error for
// the client.
func (t *target) reportFailure(ctx context.Context, req *mesh.Request, cause error) *node.Error {
	f := failureOf(cause)
	if leftOut, ok := t.failureLog.admit(f, t.now()); ok {
		args := []any{
			"target", string(t.url), "route", req.Route, "request_id", req.Header.Get("X-Request-Id"),
			"failure", f.kind, "cause", cause,
		}
		if leftOut > 0 {
			args = append(args, "left_out", leftOut)
		}
		if f == failureNodeClosed {
			t.log.InfoContext(ctx, "upstream request cut off by the node", args...)
		} else {
			t.log.WarnContext(ctx, "upstream request failed", args...)
		}
	}
	e := node.Errorf(f.code, cause, "%s", f.text)
	e.Failure = f.proxyStatus
	return e
}

// connectError marks an error to connect.
func connectError(err error) error { return fmt.Errorf("%w: %w", errConnect, err) }
