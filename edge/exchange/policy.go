package exchange

import (
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// Policy is one rule that the requests of a route pass, made ready for that route. It is one value: what it does on the
// full way and what it does on the short way of a hit stand side by side, and the chain of a route is the list of them.
type Policy struct {
	Name string
	// Wrap gives the handler that does what the policy does and calls next. It is called once, when the route is made.
	Wrap func(next Handler) Handler
	// Short is the policy's part on the short way. Nil keeps the route off that way.
	Short *Short
	// Reads reports whether the policy looks at a request field of that name; nil if it looks at none. A field that is
	// read may not come as a trailer.
	Reads func(field string) bool
	// Value is what the package that made the policy knows of it: see Of.
	Value any
}

// Short is a policy's part on the short way, on which a response that lies in memory is given out in the goroutine that
// reads the connection: nothing may block, ask anybody, or allocate. Each field may be nil, for nothing to do.
//
//  1. Enter of each policy is called in the order of the chain, until one has an Answer.
//  2. Answer gives the response. The policies after it have no part in a hit, on the full way either.
//  3. Leave is called in the opposite order, and may add fields.
//  4. The front writes the response.
//  5. Done is called in that order too.
//
// False of Enter, or no response of Answer, sends the exchange the full way, where the policies that have entered find
// it as they left it. If one of them panics, Cancel of all is called, and the request begins the full way anew.
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
	Handler    Handler // the policies around the end

	short *short
}

// short is what of the policies has something to do, in the order of its calls.
type short struct {
	enter  []func(x *Exchange) bool
	answer func(x *Exchange) *mesh.Response
	leave  []func(x *Exchange, resp *mesh.Response)
	done   []func(x *Exchange, resp *mesh.Response)
	cancel []func(x *Exchange)
}

// NewRoute makes a route whose requests pass the policies, the first of which is the outermost, and reach end.
func NewRoute(r node.Route, id string, policies func(*Route) []Policy, end Handler) *Route {
	out := &Route{Route: r, ID: id, ParamNames: r.Path.Params()}
	out.Policies = policies(out)
	out.Handler = end
	for _, p := range slices.Backward(out.Policies) {
		out.Handler = p.Wrap(out.Handler)
	}
	out.short = shorten(out.Policies)
	return out
}

// shorten makes the short way of the policies; nil if there is none.
func shorten(policies []Policy) *short {
	s := &short{}
	for _, p := range policies {
		part := p.Short
		if part == nil {
			return nil
		}
		s.enter = appendSome(s.enter, part.Enter != nil, part.Enter)
		s.leave = appendSome(s.leave, part.Leave != nil, part.Leave)
		s.done = appendSome(s.done, part.Done != nil, part.Done)
		s.cancel = appendSome(s.cancel, part.Cancel != nil, part.Cancel)
		if part.Answer != nil {
			s.answer = part.Answer
			slices.Reverse(s.leave)
			slices.Reverse(s.done)
			return s
		}
	}
	return nil
}

func appendSome[F any](list []F, some bool, f F) []F {
	if some {
		return append(list, f)
	}
	return list
}

// ShortWay gives the response of the short way, or nil: then the exchange goes the full way. After a response the front
// writes it, and calls Done.
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

// Done ends an exchange of the short way whose response has been written.
func (r *Route) Done(x *Exchange, resp *mesh.Response) {
	for _, done := range r.short.done {
		done(x, resp)
	}
}

// Cancel takes back what the policies did on the short way of an exchange that begins anew.
func (r *Route) Cancel(x *Exchange) {
	if r.short == nil {
		return
	}
	for _, cancel := range r.short.cancel {
		cancel(x)
	}
}

// reads reports whether the route looks at a request field of that name, or writes it.
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

// Of gives the route's policy of a package, by the type of its Value; zero if the route has none.
func Of[T any](r *Route) (value T) {
	for i := range r.Policies {
		if v, ok := r.Policies[i].Value.(T); ok {
			return v
		}
	}
	return value
}
