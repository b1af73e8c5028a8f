package exchange_test

import (
	"context"
	"slices"
	"testing"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// noting makes a policy whose parts note their calls, and answers on the short way if it is told to.
func noting(name string, calls *[]string, enters, answers bool) exchange.Policy {
	note := func(what string) { *calls = append(*calls, name+" "+what) }
	short := &exchange.Short{
		Enter:  func(*exchange.Exchange) bool { note("enter"); return enters },
		Leave:  func(*exchange.Exchange, *mesh.Response) { note("leave") },
		Done:   func(*exchange.Exchange, *mesh.Response) { note("done") },
		Cancel: func(*exchange.Exchange) { note("cancel") },
	}
	if answers {
		short.Answer = func(*exchange.Exchange) *mesh.Response {
			note("answer")
			return &mesh.Response{Status: 200}
		}
	}
	return exchange.Policy{Name: name, Short: short, Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			note("wrap")
			return next(ctx, x)
		}
	}}
}

func routeOf(policies ...exchange.Policy) *exchange.Route {
	end := func(context.Context, *exchange.Exchange) (*mesh.Response, error) {
		return &mesh.Response{Status: 204}, nil
	}
	return exchange.NewRoute(node.Route{}, "r", func(*exchange.Route) []exchange.Policy { return policies }, end)
}

// On the short way policies enter in the order of the chain and leave in the opposite one, up to the one that answers;
// on the full way all of them wrap what comes after.
func TestOrderOfPolicies(t *testing.T) {
	var calls []string
	r := routeOf(noting("a", &calls, true, false), noting("b", &calls, true, true), noting("c", &calls, true, false))
	x := &exchange.Exchange{}
	resp := r.ShortWay(x)
	if resp == nil || resp.Status != 200 {
		t.Fatalf("got %+v", resp)
	}
	r.Done(x, resp)
	r.Cancel(x)
	want := []string{"a enter", "b enter", "b answer", "b leave", "a leave", "b done", "a done", "a cancel", "b cancel"}
	if !slices.Equal(calls, want) {
		t.Errorf("got %q, want %q", calls, want)
	}
	calls = nil
	if resp, err := r.Handler(t.Context(), x); err != nil || resp.Status != 204 {
		t.Errorf("got %+v, %v", resp, err)
	}
	if want := []string{"a wrap", "b wrap", "c wrap"}; !slices.Equal(calls, want) {
		t.Errorf("got %q, want %q", calls, want)
	}
}

// A route has no short way if a policy before the one that answers has none, if none answers, or for an exchange that a
// policy doesn't let enter.
func TestRoutesWithoutShortWay(t *testing.T) {
	var calls []string
	full := noting("full", &calls, true, false)
	full.Short = nil
	answers := noting("answers", &calls, true, true)
	for name, r := range map[string]*exchange.Route{
		"no short form": routeOf(full, answers), "no answer": routeOf(noting("a", &calls, true, false)),
		"no entry": routeOf(noting("a", &calls, false, false), answers), "nothing": routeOf(),
	} {
		if resp := r.ShortWay(&exchange.Exchange{}); resp != nil {
			t.Errorf("%s: got %+v", name, resp)
		}
		r.Cancel(&exchange.Exchange{}) // does nothing, or what it did for those that entered
	}
	if routeOf(answers, full).ShortWay(&exchange.Exchange{}) == nil {
		t.Error("a policy behind the one that answers keeps a hit off the short way")
	}
}

type kept struct{ n int }

func (k *kept) reset() { k.n = -1 }

type dropped struct{}

var keptSlot, droppedSlot = exchange.NewLocal((*kept).reset), exchange.NewLocal[dropped](nil)

// What a slot holds is the exchange's own; an exchange that is used again keeps the memory of what can be emptied.
func TestSlots(t *testing.T) {
	x := &exchange.Exchange{Method: "GET"}
	if keptSlot.Of(x) != nil {
		t.Error("a new exchange holds something")
	}
	k := keptSlot.Make(x)
	k.n = 7
	droppedSlot.Set(x, &dropped{})
	if keptSlot.Make(x) != k || keptSlot.Of(&exchange.Exchange{}) != nil {
		t.Error("a slot isn't the exchange's own")
	}
	x.Reset()
	if x.Method != "" || keptSlot.Of(x) != k || k.n != -1 || droppedSlot.Of(x) != nil {
		t.Errorf("after Reset: %q, %+v, %v", x.Method, k, droppedSlot.Of(x))
	}
}

// Whatever a request that is made of another one carries of its client, fields and body are its own.
func TestDetachedExchangeIsItsOwn(t *testing.T) {
	x := &exchange.Exchange{
		Method: "GET", Target: "/a?b", Header: mesh.Header{{Name: "A", Value: "1"}}, Path: "/a", Query: "?b", Host: "h",
		ID: "id", Scheme: "https", Trusted: true, Params: []string{"p"}, Outcome: exchange.Outcome{OverLimit: "l"},
	}
	d := x.Detach()
	d.Header[0].Value = "2"
	if x.Header[0].Value != "1" || d.Outcome.OverLimit != "" || d.Incoming != nil || d.Started.IsZero() {
		t.Errorf("got %+v of %+v", d, x)
	}
	if d.Method != "GET" || d.Target != "/a?b" || d.Path+d.Query != "/a?b" || d.Host != "h" || d.ID != "id" ||
		!d.Trusted ||
		d.Scheme != "https" || len(d.Params) != 1 {
		t.Errorf("got %+v", d)
	}
	if s := x.Sub(); s.Method != "" || s.Path != "" || s.Header != nil || s.ID != "id" || s.Host != "h" {
		t.Errorf("got %+v", s)
	}
}
