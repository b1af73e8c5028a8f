package mesh

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/http1"
)

// NATS headers of a reply that the mesh trusts.
const (
	headerBusy      = "Millrace-Busy"       // the member is at its limit and didn't start; empty payload
	headerMember    = "Millrace-Member"     // who answered
	headerError     = "Millrace-Error"      // a node.Code instead of a response
	headerErrorText = "Millrace-Error-Text" // the safe text of that error
	headerUnreached = "Millrace-Unreached"  // with an error: see node.Error
	headerFailure   = "Millrace-Failure"    // with an error: see node.Error
	headerStatus    = "Status"              // set by the NATS server: 503 means no responders
)

// NATS chooses among members without knowing which are at their limit. A call therefore asks up to maxBusy more times
// after a busy reply. Once a call has found every member at its limit, other calls ask only fewBusy more times for
// fullFor, so as not to add load when it is highest.
const (
	maxBusy = 8
	fewBusy = 2
	fullFor = 100 * time.Millisecond
)

// Do sends the request to one member and waits for its answer, at most until req.Deadline.
//
// A busy reply is followed by another try elsewhere, since the member started nothing. A repeatable request without an
// answer after half of its time is also sent to a second member; the first answer wins. So a dead member costs a delay,
// and a slow one still answers. Every other request is sent once. So is one that a member in this process answers
// directly.
//
// The error is a *node.Error with one of the codes no_member, busy, unavailable, timeout, canceled, bad_reply,
// body_too_large and invalid_request, or the error that a member reported.
func (c *Conn) Do(ctx context.Context, to Destination, req *Request) (*Response, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	if req.Stream != nil {
		return c.doStream(ctx, to, req)
	}
	if resp, err, done := c.direct(ctx, to, req); done {
		return resp, err
	}
	if to.answers == oneNode && c.nodeLost(to.nodeID()) {
		return nil, node.Errorf(node.CodeUnavailable, nil, "the node is lost")
	}
	call := requestCall{conn: c, to: to, req: req}
	defer call.end()
	if err := call.sendTry(); err != nil {
		return nil, err
	}
	timer := acquireTimer(min(call.scheduleSecond(), waitingAfter))
	call.timer = timer
	for {
		select {
		case msg := <-call.replies(0):
			call.forwardInterims(0)
			if resp, err, done := call.handleReply(ctx, 0, msg); done {
				return resp, err
			}
		case msg := <-call.interimReplies():
			call.forwardInterim(0, msg)
		case msg := <-call.replies(1):
			if resp, err, done := call.handleReply(ctx, 1, msg); done {
				return resp, err
			}
		case <-timer.C:
			if err := call.timerFired(); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	}
}

func contextError(ctx context.Context) *node.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return node.Errorf(node.CodeTimeout, ctx.Err(), "no answer within the deadline")
	}
	return node.Errorf(node.CodeCanceled, ctx.Err(), "the client went away")
}

// requestCall is one call of Do: the request and its tries, of which at most two are pending at once.
type requestCall struct {
	conn         *Conn
	to           Destination
	req          *Request
	tries        [2]try       // the zero try is none
	sentAt       [2]time.Time // of each try, approximately
	local        [2]bool      // the try was handed to a member in this process
	secondAt     time.Time    // when the second try is due
	secondDone   bool         // the second try was made, or isn't allowed
	memberLost   bool         // a try was abandoned because its member is gone
	busyCount    int
	timer        *time.Timer
	waiting      *waitingCall // set once the call has waited for waitingAfter
	interimQuota interimQuota // of the forwarded interim responses
}

// sendTry publishes the request as a new try.
func (c *requestCall) sendTry() error {
	t, ok := c.conn.mux.begin()
	if !ok {
		return node.Errorf(node.CodeBusy, nil, "too many requests wait for answers")
	}
	i := 0
	if c.tries[0].slot != nil {
		i = 1
	}
	c.tries[i] = t
	if err := c.publish(i); err != nil {
		c.conn.mux.abandon(t, c.to.label)
		c.tries[i] = try{}
		return err
	}
	return nil
}

func (c *requestCall) publish(i int) error {
	t := c.tries[i]
	switch s, full := c.conn.localMembers.acquire(c.to.subject, false); {
	case full:
		c.conn.stats.forLabel(c.to.label).busy.Add(1)
		return errAllBusy
	case s != nil:
		c.local[i] = true
		return c.deliverLocal(s, i)
	}
	c.local[i] = false
	buf := payloads.Get().(*[]byte)
	defer releasePayload(buf)
	payload, err := c.payload((*buf)[:0], i)
	*buf = payload
	if err != nil {
		return err
	}
	c.conn.pauses.beginPublish(c.to.subject)
	defer c.conn.pauses.endPublish()
	return publishError(c.conn.nc.PublishRequest(c.to.subject, c.conn.mux.subject(t, c.to.label), payload))
}

// payload appends the message of try i.
func (c *requestCall) payload(b []byte, i int) ([]byte, error) {
	c.sentAt[i] = time.Now()
	left := c.req.Deadline.Sub(c.sentAt[i])
	if left <= 0 {
		return b, node.Errorf(node.CodeTimeout, nil, "no time left to send the request")
	}
	b, err := appendRequest(b, c.req, left, c.nonce(c.tries[i]))
	if err != nil {
		return b, requestError(err)
	}
	return b, nil
}

// requestError returns the error for a request that can't be written as a message.
func requestError(err error) error {
	switch {
	case errors.Is(err, ErrBodyTooLarge):
		return node.Errorf(node.CodeTooLarge, nil, "the body is larger than one message carries")
	case errors.Is(err, http1.ErrFieldCount):
		return node.Errorf(node.CodeHeaderTooLarge, nil, "the request has too many header fields")
	}
	return node.Errorf(node.CodeInvalid, err, "the request can't be sent")
}

// publishError returns the error for a request that NATS didn't accept; nil for nil.
func publishError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return node.Errorf(node.CodeHeaderTooLarge, nil, "the request's head is larger than one message carries")
	}
	return node.Errorf(node.CodeUnavailable, err, "the mesh connection is away")
}

// nonce names a try to members: the number in its reply subject, made unique by the inbox.
func (c *requestCall) nonce(t try) string {
	b := append(make([]byte, 0, 48), c.conn.id...)
	return http1.UnsafeString(strconv.AppendUint(append(b, '.'), t.nonce, 36))
}

// scheduleSecond returns the time until the second try of a repeatable request, else the time until the deadline.
func (c *requestCall) scheduleSecond() time.Duration {
	left := c.req.Deadline.Sub(c.sentAt[0])
	if c.secondDone = c.req.Again || !Repeatable(c.req.Method); c.secondDone {
		return left
	}
	c.conn.stats.forLabel(c.to.label).budget.Earn(secondTryPercent)
	c.secondAt = c.sentAt[0].Add(left / 2)
	return left / 2
}

// secondTryPercent bounds the requests that are sent again. When a destination is slow, doubling its load would make it
// slower.
const secondTryPercent = 20

// timerFired handles the timer. It fires when the call has waited for waitingAfter, when there are departures to
// handle, when the second try is due, and at the deadline.
func (c *requestCall) timerFired() error {
	if c.waiting == nil {
		c.waiting = c.conn.waiting.add(c.to, c.sentAt[0], c.timer)
	}
	if err := c.handleDepartures(c.waiting.takeDepartures()); err != nil {
		return err
	}
	now := time.Now()
	if !c.secondDone && !now.Before(c.secondAt) {
		if c.secondDone = true; c.spendBudget() {
			_ = c.sendAgain() // the first try stays pending
		}
	}
	next := c.req.Deadline
	if !c.secondDone {
		next = c.secondAt
	}
	if !now.Before(c.req.Deadline) {
		return node.Errorf(node.CodeTimeout, nil, "no answer within the deadline")
	}
	c.waiting.resetTimer(next.Sub(now))
	return nil
}

// spendBudget pays for a second try while the first may still be answered. Replacing a try that is known to be lost
// needs no budget, since nobody works on it.
func (c *requestCall) spendBudget() bool {
	return c.conn.stats.forLabel(c.to.label).budget.Spend(secondTryPercent)
}

// sendAgain makes the second try.
func (c *requestCall) sendAgain() error {
	c.secondDone = true
	again := *c.req
	again.Again = true
	c.req = &again
	err := c.sendTry()
	if err == nil {
		c.conn.stats.forLabel(c.to.label).retries.Add(1)
	}
	return err
}

// replies returns the reply channel of try i. It is nil, and blocks forever, if there is no such try.
func (c *requestCall) replies(i int) <-chan *nats.Msg {
	if s := c.tries[i].slot; s != nil {
		return s.reply
	}
	return nil
}

// interimReplies returns the channel of the first try's interim responses. Those of a second try are ignored: the
// client has waited for long by then, and two members could contradict each other. It is nil, and blocks forever, if
// interim responses aren't wanted.
func (c *requestCall) interimReplies() <-chan *nats.Msg {
	if s := c.tries[0].slot; s != nil && c.req.Interim != nil {
		return s.interims
	}
	return nil
}

// forwardInterims forwards the interim responses that arrived before the reply, which select may have chosen first.
func (c *requestCall) forwardInterims(i int) {
	for c.req.Interim != nil {
		select {
		case msg := <-c.tries[i].slot.interims:
			c.forwardInterim(i, msg)
		default:
			return
		}
	}
}

func (c *requestCall) forwardInterim(i int, msg *nats.Msg) {
	if c.conn.mux.isFor(c.tries[i], msg) {
		c.req.forwardInterim(&c.interimQuota, msg)
	}
}

// handleReply handles the reply to try i. done is false if the call goes on: another try is pending or was just made.
func (c *requestCall) handleReply(ctx context.Context, i int, msg *nats.Msg) (resp *Response, err error, done bool) { //nolint:revive // done says whether resp and err are set
	c.conn.mux.release(c.tries[i])
	c.tries[i] = try{}
	resp, err = c.conn.readReply(c.to.label, c.req, msg)
	if err == nil && msg.Header[headerStream] != nil {
		resp, err = c.conn.openReplyBody(ctx, c.req, msg, resp)
	}
	code := node.CodeOf(err)
	notStarted := code == node.CodeBusy || code == node.CodeNoMember
	switch {
	case c.tries[1-i].slot != nil && err != nil && (notStarted || code == node.CodeUnavailable):
		return nil, nil, false // the other try may still be answered
	case errors.Is(err, errMemberBusy) && c.conn.stats.forLabel(c.to.label).mayAskAgain(c.busyCount):
		c.busyCount++
		if tryErr := c.sendTry(); tryErr != nil {
			return nil, tryErr, true
		}
		return nil, nil, false
	case code == node.CodeNoMember && c.memberLost:
		return nil, errMemberGone, true
	case code == node.CodeNoMember && c.busyCount > 0:
		return nil, errAllBusy, true
	}
	return resp, err, true
}

// errAllBusy answers a call when every member was at its limit.
var errAllBusy = node.Errorf(node.CodeBusy, nil, "every member is at its limit")

// errMemberBusy is the cause of an error for a member's refusal, which started nothing.
var errMemberBusy = errors.New("member is at its limit")

// end returns the timer and the slots of pending tries, and cancels these tries at their members.
func (c *requestCall) end() {
	c.waiting.remove() // before the timer is reused
	if c.timer != nil {
		releaseTimer(c.timer)
	}
	for i, t := range c.tries {
		if t.slot == nil {
			continue
		}
		c.conn.mux.abandon(t, c.to.label)
		c.tries[i] = try{}
		_ = c.conn.nc.Publish(c.to.cancel, []byte(c.nonce(t))) // best effort: the member's deadline ends it anyway
	}
}

// readReply turns a reply message into a response or an error.
func (c *Conn) readReply(label string, req *Request, msg *nats.Msg) (*Response, error) {
	if msg == nil {
		return nil, node.Errorf(node.CodeUnavailable, nil, "the mesh connection was lost")
	}
	if len(msg.Header) > 0 {
		switch {
		case len(msg.Data) == 0 && msg.Header.Get(headerStatus) == "503":
			c.stats.forKnownLabel(label).noMember.Add(1)
			return nil, node.Errorf(node.CodeNoMember, nil, "nobody answers this service")
		case len(msg.Data) == 0 && msg.Header[headerBusy] != nil:
			c.stats.forLabel(label).busy.Add(1)
			return nil, node.Errorf(node.CodeBusy, errMemberBusy, "every member is at its limit")
		case msg.Header[headerError] != nil:
			return nil, headerMemberError(msg.Header, headerError)
		}
	}
	resp, err := decodeReplyPayload(msg, req)
	member := clip(msg.Header.Get(headerMember))
	if err != nil {
		reason := dropMalformed
		if errors.Is(err, ErrBodyTooLarge) {
			reason = dropOversized
		}
		c.stats.countBadReply(label, member, reason, err, replyHint(msg.Data))
		return nil, badReplyError(err)
	}
	resp.Member = member
	return resp, nil
}

// badReplyError is the error for a reply that can't be forwarded.
func badReplyError(cause error) *node.Error {
	e := node.Errorf(node.CodeBadReply, cause, "the service answered what can't be passed on")
	e.Failure = replyFailure(cause)
	return e
}

// replyFailure classifies a response that can't be forwarded.
func replyFailure(cause error) node.Failure {
	switch {
	case errors.Is(cause, ErrBodyTooLarge), errors.Is(cause, nats.ErrMaxPayload):
		return node.FailureBodySize
	case errors.Is(cause, http1.ErrFieldCount):
		return node.FailureHeadSize
	}
	return node.FailureProtocol
}

func decodeReplyPayload(msg *nats.Msg, req *Request) (*Response, error) {
	if len(msg.Header) > 0 && msg.Header[headerStream] != nil {
		return decodeStreamed(msg.Data, req.Upgrade != "")
	}
	return decodeResponse(msg.Data, req.Method)
}

// headerMemberError returns the error that a member reported in NATS headers instead of a response.
func headerMemberError(h nats.Header, name string) error {
	e := memberError(node.Code(h.Get(name)), h.Get(headerErrorText), nil)
	e.Unreached = h[headerUnreached] != nil
	if f := node.Failure(h.Get(headerFailure)); f.Known() {
		e.Failure = f
	}
	return e
}

// memberError returns a member's error for its caller. A code that isn't a member's to report becomes upstream_failed,
// and a text that isn't short and printable is replaced.
func memberError(code node.Code, text string, cause error) *node.Error {
	switch code { //nolint:exhaustive // see above
	case node.CodeInternal, node.CodeUpstream, node.CodeBusy, node.CodeNoTarget, node.CodeTimeout, node.CodeTooLarge,
		node.CodeInvalid,
		node.CodeUnavailable:
	default:
		code = node.CodeUpstream
	}
	if text == "" || len(text) > 200 || !http1.ValidField(Field{Name: "T", Value: text}) {
		text = "the service failed"
	}
	return node.Errorf(code, cause, "%s", text)
}

var payloads = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// releasePayload keeps only small buffers, so that one large body doesn't stay in memory.
func releasePayload(b *[]byte) {
	if cap(*b) <= 64<<10 {
		payloads.Put(b)
	}
}

var timers = sync.Pool{New: func() any { t := time.NewTimer(time.Hour); t.Stop(); return t }}

func acquireTimer(d time.Duration) *time.Timer {
	t := timers.Get().(*time.Timer)
	t.Reset(d)
	return t
}

// releaseTimer stops the timer. Since Go 1.23 no stale tick can be left in its channel.
func releaseTimer(t *time.Timer) {
	t.Stop()
	timers.Put(t)
}
