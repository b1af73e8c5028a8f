package node

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Upstream is a named group of HTTP targets that answer the same requests.
type Upstream struct {
	Targets        []UpstreamTarget `yaml:"targets" doc:"Base URLs, each a text or {url, weight}."`
	Remote         bool             `yaml:"remote" doc:"Other nodes serve this upstream; this node only routes to it."`
	Resolve        Duration         `yaml:"resolve" doc:"How often the addresses of targets with a host name are looked up; each is a target then. 0s to leave it to each connection."`
	Balance        Balance          `yaml:"balance" doc:"least: by requests in flight and weight; hash:PART: equal values go to the same target. PART is ip, path, header:NAME or cookie:NAME."`
	Canary         *Canary          `yaml:"canary" doc:"Which requests go to the targets with canary: true."`
	Timeout        Duration         `yaml:"timeout" doc:"Longest time until the response has come, retries included, whatever the route allows; left out, the route's timeout alone counts." zero:"leave it out for the timeout of the route alone"`
	ConnectTimeout Duration         `yaml:"connect_timeout" doc:"Until a connection to a target stands."`
	MaxRequests    int              `yaml:"max_requests" doc:"Requests in flight at once on this node; one more is refused, and sent to another node."`
	Concurrency    Concurrency      `yaml:"concurrency" doc:"How many requests one target gets at once, and which wait."`
	Retry          Retry            `yaml:"retry" doc:"When a failed request is sent to another target."`
	Eject          Eject            `yaml:"eject" doc:"When a target that fails gets no requests for a while."`
	Health         *Health          `yaml:"health" doc:"Active health checks; without them only failures of real requests count."`
}

// Defaults sets what a configuration leaves out.
func (u *Upstream) Defaults() {
	u.ConnectTimeout = Duration(2 * time.Second)
	u.MaxRequests = 1024
	u.Resolve, u.Balance = Duration(30*time.Second), Balance{}
	u.Concurrency.Defaults()
	u.Retry.Defaults()
	u.Eject.Defaults()
}

// MaxTries is the maximum of Retry.Tries.
const MaxTries = 10

// Canary says which requests go to an upstream's canary targets. If no target of one kind is usable, the other kind is
// used.
type Canary struct {
	Percent int    `yaml:"percent" doc:"Share of the requests, in percent, spread evenly."`
	Header  string `yaml:"header" doc:"Field that decides for its request: always or never."`
}

// Concurrency limits how many requests one target gets at once from this node; each needs its own connection.
type Concurrency struct {
	Max      TargetLimit `yaml:"max" doc:"Requests that one target gets at once; 0 for any number; auto to keep as many in flight as don't make it slower, and refuse others at once with 503."`
	MaxQueue int         `yaml:"max_queue" doc:"With a number for max: requests that may wait until a target has room; others are refused with 503."`
	MaxWait  Duration    `yaml:"max_wait" doc:"Time that a request may wait."`
}

// Defaults sets what a configuration leaves out.
func (c *Concurrency) Defaults() { c.MaxQueue, c.MaxWait = 100, Duration(time.Second) }

// TargetLimit is a number of requests; 0 means no limit, LimitAuto an adaptive one.
type TargetLimit int

// LimitAuto is a limit that adapts to the target's latency.
const LimitAuto TargetLimit = -1

// UnmarshalText parses a number or auto.
func (l *TargetLimit) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*l = LimitAuto
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return fmt.Errorf("%q is not a limit of requests: write a number, or auto", text)
	}
	*l = TargetLimit(n)
	return nil
}

// TakesNumber allows the value to be written without quotes.
func (*TargetLimit) TakesNumber() {}

// MarshalText writes the limit as UnmarshalText reads it.
func (l TargetLimit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// String writes the limit as UnmarshalText reads it.
func (l TargetLimit) String() string {
	if l == LimitAuto {
		return "auto"
	}
	return strconv.Itoa(int(l))
}

// Balance says how a target is chosen: of two random targets the one with fewer requests in flight for its weight, or
// by a hash of a part of the request.
type Balance struct {
	Hash HashKind // empty for the fewest requests in flight
	Name string   // of a header field or cookie
}

// HashKind is the part of a request that its target depends on.
type HashKind string

// The values of HashKind.
const (
	HashIP     HashKind = "ip" // the first address of X-Forwarded-For
	HashPath   HashKind = "path"
	HashHeader HashKind = "header"
	HashCookie HashKind = "cookie"
)

// UnmarshalText reads least, hash:ip, hash:path, hash:header:NAME or hash:cookie:NAME.
func (b *Balance) UnmarshalText(text []byte) error {
	if string(text) == "least" {
		*b = Balance{}
		return nil
	}
	part, hash := strings.CutPrefix(string(text), "hash:")
	kind, name, named := strings.Cut(part, ":")
	switch HashKind(kind) {
	case HashIP, HashPath:
		hash = hash && !named
	case HashHeader, HashCookie:
		hash = hash && new(RequestPart).UnmarshalText([]byte(part)) == nil
	default:
		hash = false
	}
	if !hash {
		return fmt.Errorf("%q is no way to balance: write least, hash:ip, hash:path, hash:header:NAME or "+
			"hash:cookie:NAME", text)
	}
	b.Hash, b.Name = HashKind(kind), name
	return nil
}

// MarshalText writes it as UnmarshalText reads it.
func (b Balance) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String writes it as UnmarshalText reads it.
func (b Balance) String() string {
	switch {
	case b.Hash == "":
		return "least"
	case b.Name == "":
		return "hash:" + string(b.Hash)
	}
	return "hash:" + string(b.Hash) + ":" + b.Name
}

// Retry says when a request that failed at a target is sent to another one. A request may be repeated if its method is
// idempotent (RFC 9110 §9.2.2), or if nothing of it reached the target.
type Retry struct {
	Tries          int      `yaml:"tries" doc:"Targets that one request is sent to at most; 1 for no retries."`
	On             Statuses `yaml:"on" doc:"Statuses of a target, from 500 to 599, that are a reason for a retry, as no answer always is. Add 500 if it tells of a sick instance, and not of a bug that every one has."`
	Budget         int      `yaml:"budget" doc:"Retries and hedges in percent of the requests; ten may be saved up. 0 for none, but of requests that couldn't be sent: those cost nothing."`
	TryTimeout     Duration `yaml:"try_timeout" doc:"Until one try has answered, if another may follow; 0s for all the time that the request has."`
	Hedge          Duration `yaml:"hedge" doc:"After this time without an answer a GET, HEAD or OPTIONS is sent to a second target too, and the first answer counts; within the budget. 0s for never."`
	IdempotencyKey bool     `yaml:"idempotency_key" doc:"Requests with an Idempotency-Key field may be repeated too: the application must make them idempotent."`
}

// Defaults sets what a configuration leaves out.
func (r *Retry) Defaults() { r.Tries, r.Budget, r.On = 3, 20, unavailableStatuses() }

// Statuses are statuses of responses.
type Statuses []int

// TakesOne allows a single status to be written without a list.
func (Statuses) TakesOne() {}

// Has reports whether the list contains the status.
func (s Statuses) Has(status int) bool { return slices.Contains(s, status) }

// unavailableStatuses returns the statuses that mean that a target can't serve requests at the moment, whatever the
// request (RFC 9110 §15.6).
func unavailableStatuses() Statuses { return Statuses{502, 503, 504} }

// Eject says when a target is ejected. It is tried again after a second, and after longer and longer times if it fails
// then.
type Eject struct {
	On        Statuses `yaml:"on" doc:"Statuses, from 500 to 599, by which a target fails a request, as it does without an answer."`
	Failures  int      `yaml:"failures" doc:"Requests in a row that a target fails until it rests; 0 for never."`
	Rate      int      `yaml:"rate" doc:"Percent of its requests within ten seconds, of at least twenty, that a target fails until it rests; 0 for never."`
	Slow      int      `yaml:"slow" doc:"A target rests that takes this many times as long as the others' median, on average within ten seconds; 0 for never."`
	Most      int      `yaml:"most" doc:"Percent of the targets that may rest at once, those that fail their health check included; one always may, if it isn't the only one. When all others fail too, those that rest are used as well."`
	SlowStart Duration `yaml:"slow_start" doc:"Until a target that returns, or is added, has its whole share of the requests."`
}

// Defaults sets what a configuration leaves out.
func (e *Eject) Defaults() {
	e.On, e.Failures, e.Rate, e.Most, e.SlowStart = unavailableStatuses(), 3, 50, 75, Duration(10*time.Second)
}

// UpstreamTarget is one address of an upstream. A target with twice the weight gets twice the requests.
type UpstreamTarget struct {
	URL    BaseURL `yaml:"url" doc:"Base URL: http or https, host and port." required:"true"`
	Weight int     `yaml:"weight" doc:"Share of the requests, relative to the other targets; of each address, if the host has several."`
	Canary bool    `yaml:"canary" doc:"Gets the requests that canary says, and no others."`
}

// Defaults sets what a configuration leaves out.
func (t *UpstreamTarget) Defaults() { t.Weight = 1 }

// UnmarshalText parses the short form, which is the URL.
func (t *UpstreamTarget) UnmarshalText(text []byte) error {
	t.Defaults()
	return t.URL.UnmarshalText(text)
}

// BaseURL is the scheme and authority of a target, such as http://127.0.0.1:3000.
type BaseURL string

// UnmarshalText checks the URL. A path, query or user is refused, since requests are forwarded with their own path.
func (b *BaseURL) UnmarshalText(text []byte) error {
	s := strings.TrimSuffix(string(text), "/")
	u, err := url.Parse(s)
	switch {
	case strings.Contains(s, "@"): // checked first, without showing the text: it may contain a password
		return errors.New("target has a user: credentials don't belong into a target; write scheme, host and port")
	case err != nil || !validAuthority(u) || (u.Scheme != "http" && u.Scheme != "https"):
		ascii := ""
		if err == nil {
			ascii = asciiHint(u.Hostname())
		}
		return fmt.Errorf("%q is not a target: write scheme, host and port, such as http://127.0.0.1:3000%s", text,
			ascii)
	case u.Path != "" || strings.ContainsAny(s, "?#"):
		return fmt.Errorf("%q has a path or query: write %s://%s, since requests keep their own, or get one by "+
			"rewrite of their route", text, u.Scheme, u.Host)
	}
	*b = BaseURL(s)
	return nil
}

// validAuthority reports whether the URL has a valid host and, if any, a port from 1 to 65535.
func validAuthority(u *url.URL) bool {
	odd := func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"<>\\^`{|}/?#@", c) }
	if u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || strings.ContainsFunc(u.Host, odd) {
		return false
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" || (err == nil && port > 0)
}

// Health says how a target is checked: GET Path every Interval; a status from 200 to 399 is healthy.
type Health struct {
	Path     string   `yaml:"path" doc:"Path to GET; a status from 200 to 399 is healthy." required:"true"`
	Interval Duration `yaml:"interval" doc:"Time between two checks of a target."`
	Timeout  Duration `yaml:"timeout" doc:"Time for one check to answer."`
	Fails    int      `yaml:"fails" doc:"Failed checks in a row until the target is taken out."`
	Passes   int      `yaml:"passes" doc:"Passed checks in a row until it is taken back."`
	Panic    int      `yaml:"panic" doc:"When fewer than this percent of the targets are healthy, all are used; 0 for never."`
}

// Defaults sets what a configuration leaves out.
func (h *Health) Defaults() {
	h.Interval = Duration(2 * time.Second)
	h.Timeout = Duration(time.Second)
	h.Fails, h.Passes = 2, 1
}
