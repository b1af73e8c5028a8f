package exchange

import (
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// Policy is one step of a route, such as its cache or its limits. Wrap adds it to the route's chain of handlers, which
// is the full way of a request. Short is the same policy on the short way, the fast path of a cache hit. A route has a
// list of policies.
type Policy struct {
	Name string
	// Wrap returns a handler that applies the policy and calls next. It is called once, when the route is made.
	Wrap func(next Handler) Handler
	// Short is the policy's part on the short way. If it is nil, the route has no short way, unless a policy before it
	// has an Answer.
	Short *Short
	// Reads reports whether the policy reads the request field of that name; nil if it reads none. A trailer field that
	// a policy reads is dropped, because the policy has run by then.
	Reads func(field string) bool
	// Value is for the package that made the policy, which gets it back with Of.
	Value any
}

// Short is a policy's part on the short way, on which the goroutine that reads the connection writes a response that is
// in memory. Its functions may not block, call another node or allocate. Each field may be nil.
//
//  1. Enter is called for each policy in the order of the chain, up to the first policy that has an Answer.
//  2. That policy's Answer returns the response. The policies after it take no part in a hit on the full way either.
//  3. Leave is called in reverse order. It may add fields to the response.
//  4. The front writes the response.
//  5. Done is called in reverse order.
//
// If an Enter returns false, or Answer returns nil, the exchange goes the full way. What the policies stored with the
// exchange until then is still there. If Enter, Answer or Leave panics, Cancel is called for the policies up to the one
// that answers, also for those that haven't entered, and the request starts again on the full way. After a panic of
// Done it doesn't: the client has its response.
type Short struct {
	Enter  func(x *Exchange) bool
	Answer func(x *Exchange) *mesh.Response
	Leave  func(x *Exchange, resp *mesh.Response)
	Done   func(x *Exchange, resp *mesh.Response)
	Cancel func(x *Exchange)
}

// Route is a node.Route made ready to serve.
type Route struct {
	node.Route

	ID         string
	ParamNames []string
	Policies   []Policy
	Handler    Handler // the policies wrapped around the handler at the end

	short *short
}

// short holds the functions of the policies that aren't nil, in the order in which they are called.
type short struct {
	enter  []func(x *Exchange) bool
	answer func(x *Exchange) *mesh.Response
	leave  []func(x *Exchange, resp *mesh.Response)
	done   []func(x *Exchange, resp *mesh.Response)
	cancel []func(x *Exchange)
}

// NewRoute returns a route whose Handler is end, wrapped in the policies. The first policy is the outermost.
func NewRoute(r node.Route, id string, policies func(*Route) []Policy, end Handler) *Route {
	out := &Route{Route: r, ID: id, ParamNames: r.Path.Params()}
	out.Policies = policies(out)
	out.Handler = end
	for _, p := range slices.Backward(out.Policies) {
		out.Handler = p.Wrap(out.Handler)
	}
	out.short = newShort(out.Policies)
	return out
}

// newShort returns the short way of the policies, or nil if there is none.
func newShort(policies []Policy) *short {
	s := &short{}
	for _, p := range policies {
		part := p.Short
		if part == nil {
			return nil
		}
		s.enter = appendIf(s.enter, part.Enter != nil, part.Enter)
		s.leave = appendIf(s.leave, part.Leave != nil, part.Leave)
		s.done = appendIf(s.done, part.Done != nil, part.Done)
		s.cancel = appendIf(s.cancel, part.Cancel != nil, part.Cancel)
		if part.Answer != nil {
			s.answer = part.Answer
			slices.Reverse(s.leave)
			slices.Reverse(s.done)
			return s
		}
	}
	return nil
}

func appendIf[F any](list []F, ok bool, f F) []F {
	if ok {
		return append(list, f)
	}
	return list
}

// ShortWay returns the response of the short way. The front must write it and then call Done. If ShortWay returns nil,
// the exchange must go the full way.
func (r *Route) ShortWay(x *Exchange) *mesh.Response {
	s := r.short
	if s == nil {
		return nil
	}
	for _, enter := range s.enter {
		if !enter(x) {
			return nil
		}
	}
	resp := s.answer(x)
	if resp == nil {
		return nil
	}
	for _, leave := range s.leave {
		leave(x, resp)
	}
	return resp
}

// Done ends an exchange whose response came from ShortWay and has been written.
func (r *Route) Done(x *Exchange, resp *mesh.Response) {
	for _, done := range r.short.done {
		done(x, resp)
	}
}

// Cancel undoes what the policies did on the short way, so that the exchange can start again on the full way.
func (r *Route) Cancel(x *Exchange) {
	if r.short == nil {
		return
	}
	for _, cancel := range r.short.cancel {
		cancel(x)
	}
}

// reads reports whether the route reads or writes the request field of that name.
func (r *Route) reads(field string) bool {
	if r.Rewrite != nil && r.Rewrite.Request.Names(field) {
		return true
	}
	for name := range r.Match.Headers {
		if node.SameName(name, field) {
			return true
		}
	}
	return slices.ContainsFunc(r.Policies, func(p Policy) bool { return p.Reads != nil && p.Reads(field) })
}

// Of returns the Value of the route's policy whose Value has the type T, or the zero T if the route has none. Each
// package uses a type of its own, so it finds its own policy.
func Of[T any](r *Route) (value T) {
	for i := range r.Policies {
		if v, ok := r.Policies[i].Value.(T); ok {
			return v
		}
	}
	return value
}
