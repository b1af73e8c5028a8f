package node

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Rewrite says what a route changes in requests before they are forwarded, and in their responses.
type Rewrite struct {
	Path     Template `yaml:"path" doc:"Path in place of the client's; {param} is a parameter of the route, {*} what its /* matched. With a query, that one counts too."`
	Host     Host     `yaml:"host" doc:"Host in place of the client's, which stays in X-Forwarded-Host."`
	Query    Edits    `yaml:"query" doc:"Query parameters."`
	Request  Edits    `yaml:"request" doc:"Header fields of the request."`
	Response Edits    `yaml:"response" doc:"Header fields of the response, before the cache keeps it."`
}

// Edits are changes to a list of names with values, in this order: Remove removes names, Set replaces all values of a
// name, Add appends values.
type Edits struct {
	Set    map[string]string `yaml:"set" doc:"Values in place of all that the name has."`
	Add    map[string]string `yaml:"add" doc:"Values beside those that the name has."`
	Remove []string          `yaml:"remove" doc:"Names to leave out."`
}

// None reports whether nothing is changed.
func (e *Edits) None() bool { return len(e.Set) == 0 && len(e.Add) == 0 && len(e.Remove) == 0 }

// Names reports whether the edits change a header field.
func (e *Edits) Names(field string) bool {
	same := func(name string) bool { return SameName(name, field) }
	for _, more := range []map[string]string{e.Set, e.Add} {
		for name := range more {
			if same(name) {
				return true
			}
		}
	}
	return slices.ContainsFunc(e.Remove, same)
}

// Redirect answers with a redirection (RFC 9110 §15.4).
type Redirect struct {
	To     Location `yaml:"to" doc:"Path, or URL with http or https: {param} is a parameter of the route, {*} what its /* matched, {host} as the host the client's. The client's query is added if it has none." required:"true"`
	Status int      `yaml:"status" doc:"301, 302, 303, 307 or 308; 308 and 301 are permanent, 307 and 308 keep the method."`
}

// Defaults sets what a configuration leaves out.
func (r *Redirect) Defaults() { r.Status = 302 }

// UnmarshalText parses the short form, which is the location.
func (r *Redirect) UnmarshalText(text []byte) error {
	r.Defaults()
	return r.To.UnmarshalText(text)
}

// Location is the target of a redirect: a template, with scheme and host if it is absolute.
type Location struct {
	Scheme string // http or https; empty for a path
	Host   string // empty for the client's host
	Path   Template
}

// UnmarshalText parses /path, https://host/path or https://{host}/path.
func (l *Location) UnmarshalText(text []byte) error {
	s := string(text)
	out := Location{}
	scheme, rest, absolute := strings.Cut(s, "://")
	if absolute {
		if scheme != "http" && scheme != "https" {
			return fmt.Errorf("%q leads neither to http nor https: write a path, or a URL such as "+
				"https://example.com/{*}", s)
		}
		host, path, _ := strings.Cut(rest, "/")
		u, err := url.Parse(scheme + "://" + host)
		if host != "{host}" && (err != nil || !validAuthority(u) || u.Host != host ||
			strings.ContainsAny(host, "@?#{}")) {
			return fmt.Errorf("%q has no host: write one such as example.com, or {host} for the client's%s", s,
				asciiHint(host))
		}
		if host != "{host}" {
			out.Host = host
		}
		out.Scheme, s = scheme, "/"+path
	}
	if strings.HasPrefix(s, "//") && !absolute {
		return fmt.Errorf("%q has no scheme: write https:%[1]s, or begin a path with one slash", s)
	}
	if err := out.Path.UnmarshalText([]byte(s)); err != nil {
		return err
	}
	*l = out
	return nil
}

// MarshalText returns the location as UnmarshalText accepts it.
func (l Location) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// String returns the location as UnmarshalText accepts it.
func (l Location) String() string {
	if l.Scheme == "" {
		return l.Path.String()
	}
	host := l.Host
	if host == "" {
		host = "{host}"
	}
	return l.Scheme + "://" + host + l.Path.String()
}

// Respond is a fixed response.
type Respond struct {
	Status  int               `yaml:"status" doc:"Status, from 200 to 599."`
	Body    string            `yaml:"body" doc:"Body of the response."`
	Headers map[string]string `yaml:"headers" doc:"Header fields; Content-Type is text/plain if left out."`
}

// Defaults sets what a configuration leaves out.
func (r *Respond) Defaults() { r.Status = 200 }

// maxRespond is the maximal size of a fixed body, which is part of the configuration.
const maxRespond = 64 << 10

// answers checks that a route has one kind of response, and checks that one.
func (v *validator) answers(i int, r *Route) {
	at := func(keys ...string) []string { return append([]string{"routes", strconv.Itoa(i)}, keys...) }
	var answers []string
	for key, has := range map[string]bool{
		"to": r.To.Kind != "", "try": r.Try != nil, "gather": r.Gather != nil,
		"redirect": r.Redirect != nil, "respond": r.Respond != nil,
	} {
		if has {
			answers = append(answers, key)
		}
	}
	slices.Sort(answers)
	if len(answers) > 1 {
		v.report(at(answers[len(answers)-1]), "a route answers in one way: keep one of %s", strings.Join(answers, ", "))
	}
	if d := r.Redirect; d != nil {
		v.check(slices.Contains([]int{301, 302, 303, 307, 308}, d.Status), at("redirect", "status"),
			"%d is not a redirection: use 301, 302, 303, 307 or 308", d.Status)
		v.refs(at("redirect", "to"), r, d.To.Path.Refs())
	}
	if a := r.Respond; a != nil {
		v.check(a.Status >= 200 && a.Status <= 599, at("respond", "status"), "%d is out of range: use 200 to 599",
			a.Status)
		v.check(a.Body == "" || (a.Status != 204 && a.Status != 205 && a.Status != 304), at("respond", "body"),
			"a response with status %d has no body", a.Status)
		v.check(len(a.Body) <= maxRespond, at("respond", "body"), "%d bytes: use at most %d, or a service", len(a.Body),
			maxRespond)
		v.editable(at("respond", "headers"), a.Headers)
	}
	if r.Rewrite != nil {
		v.rewrite(at, r)
	}
}

func (v *validator) rewrite(at keyPath, r *Route) {
	w := r.Rewrite
	origin := r.Origin().Kind
	forwards := origin == KindService || origin == KindUpstream
	v.check(w.Path.String() == "" || forwards || len(r.Sites()) > 0, at("rewrite", "path"),
		"only requests to services, upstreams and sites have a path of their own")
	v.check(w.Host == "" || forwards, at("rewrite", "host"),
		"only requests to services and upstreams have a host of their own")
	v.check(w.Query.None() || forwards, at("rewrite", "query"),
		"only requests to services and upstreams have a query of their own")
	asks := origin != "" || r.Gather != nil
	v.check(w.Request.None() || asks, at("rewrite", "request"), "the route sends no request")
	v.refs(at("rewrite", "path"), r, w.Path.Refs())
	for key, e := range map[string]*Edits{"query": &w.Query, "request": &w.Request, "response": &w.Response} {
		v.literal(at("rewrite", key, "set"), r, e.Set)
		v.literal(at("rewrite", key, "add"), r, e.Add)
	}
	for key, e := range map[string]*Edits{"request": &w.Request, "response": &w.Response} {
		v.editable(at("rewrite", key, "set"), e.Set)
		v.editable(at("rewrite", key, "add"), e.Add)
		for i, name := range e.Remove {
			v.check(validFieldName(name) && !notEditable(name), at("rewrite", key, "remove", strconv.Itoa(i)),
				"%q isn't a header field that can be changed", name)
		}
	}
}

// literal refuses values that seem to contain a parameter.
func (v *validator) literal(at []string, r *Route, values map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, param := range r.Path.Params() {
			v.check(!strings.Contains(values[name], "{"+param+"}"), append(slices.Clone(at), name),
				"{%s} isn't replaced here, only in rewrite.path, which may have a query", param)
		}
	}
}

// editable checks header fields that a configuration adds.
func (v *validator) editable(at []string, fields map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		path := append(slices.Clone(at), name)
		v.check(validFieldName(name) && !notEditable(name), path, "%q isn't a header field that can be changed", name)
		v.check(validFieldValue(fields[name]), path,
			"the value holds a character that no header field can, or a space at an end")
	}
}

// notEditable reports whether a field frames a message, belongs to one connection, or is the mesh's own.
func notEditable(name string) bool {
	return Hop(name) || SameName(name, "Content-Length") || SameName(name, "Host") || SameName(name, "Date")
}

// validFieldValue checks a value by RFC 9110 §5.5, without obs-text.
func validFieldValue(s string) bool {
	return s == strings.TrimSpace(s) && strings.IndexFunc(s, func(c rune) bool {
		return (c < ' ' && c != '\t') || c >= 0x7f
	}) < 0
}

// refs checks the references of a template of the route. calls are the calls whose results it may use.
func (v *validator) refs(at []string, r *Route, refs []Ref, calls ...string) {
	for _, ref := range refs {
		switch {
		case ref.explain(r) != "":
			v.report(at, "%s", ref.explain(r))
		case ref.Call != "" && r.Gather == nil:
			v.report(at, "%s is a call's result, which only the calls of a gather have", ref)
		case ref.Call != "":
			v.check(slices.Contains(calls, ref.Call), at, "%s needs the result of call %q: name it in after", ref,
				ref.Call)
		case ref.Param == Rest:
			v.check(r.Path.Rest, at, "{*} is what /* matched, and path %s doesn't end in it", r.Path)
		default:
			v.param(at, r, ref.Param)
		}
	}
}

// param checks that the route's path has the parameter.
func (v *validator) param(at []string, r *Route, name string) {
	params := r.Path.Params()
	v.check(slices.Contains(params, name), at, "parameter {%s} is not in path %s%s", name, r.Path,
		didYouMean(name, params))
}
