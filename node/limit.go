package node

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Limits are the limits of a route. A request must pass all of them.
type Limits []Limit

// TakesOne allows a single limit to be written without a list.
func (Limits) TakesOne() {}

// Limit says how many requests a client may make, and what happens to further ones. The short form 100/15m counts by
// client address in windows of that length. The windows day and month are those of the calendar. A name alone is a use
// of that limit under limits.
type Limit struct {
	Max            int        `yaml:"max" doc:"Requests per window, refill of a bucket per window, or requests in flight; 0 refuses all." required:"unless use"`
	Window         Window     `yaml:"window" doc:"A duration from 100ms to 31 days, or day or month for those of the calendar."`
	Use            string     `yaml:"use" doc:"Name of a limit under limits that this is a use of; of the other keys only key, cost, exempt and skip_* may stand beside it."`
	Name           string     `yaml:"name" doc:"Name in headers, metrics and commands: a-z, 0-9, - and _. Derived from the route if empty."`
	Algorithm      Algorithm  `yaml:"algorithm" doc:"fixed windows, sliding window, token bucket, or concurrent for requests in flight."`
	Align          Align      `yaml:"align" doc:"Where fixed windows begin: with a client's first request, or on the clock."`
	Zone           Zone       `yaml:"zone" doc:"Time zone of day, month and of windows on the clock, such as Europe/Berlin."`
	Burst          int        `yaml:"burst" doc:"Size of the bucket; max if left out." zero:"leave it out for a bucket of max"`
	Key            LimitKeys  `yaml:"key" doc:"Whose requests are counted together: ip, all, header:NAME, cookie:NAME or param:NAME, or several of them."`
	IPv6Prefix     int        `yaml:"ipv6_prefix" doc:"IPv6 addresses that share so many leading bits count as one client."`
	Cost           int        `yaml:"cost" doc:"How much one request counts."`
	Exempt         Exempt     `yaml:"exempt" doc:"Requests that aren't counted."`
	Shadow         bool       `yaml:"shadow" doc:"Count and report, but refuse nothing."`
	SkipFailed     bool       `yaml:"skip_failed" doc:"Responses with a status of 400 or more don't count in the end."`
	SkipSuccessful bool       `yaml:"skip_successful" doc:"Responses with a status below 400 don't count in the end."`
	StoreAway      StoreAway  `yaml:"store_away" doc:"While the mesh's store can't be asked: closed refuses what this node holds no permits for, open lets it pass, share lets each node spend a part of its own (needs align: clock)."`
	Mode           LimitMode  `yaml:"mode" doc:"What happens beyond the limit: refuse, or queue."`
	MaxWait        Duration   `yaml:"max_wait" doc:"With mode queue: the longest wait of a request."`
	MaxQueue       int        `yaml:"max_queue" doc:"With mode queue: how many requests of one client may wait."`
	Headers        HeaderForm `yaml:"headers" doc:"Form of the RateLimit fields in responses: draft-8, draft-7, draft-6, legacy or none."`
}

// Defaults sets what a configuration leaves out.
func (l *Limit) Defaults() {
	l.Algorithm, l.Align, l.StoreAway, l.Mode, l.Headers = AlgorithmFixed, AlignFirst, StoreAwayClosed, LimitModeRefuse,
		HeaderDraft8
	l.Key, l.IPv6Prefix, l.Cost, l.MaxQueue, l.MaxWait, l.Zone = LimitKeys{{Kind: KeyIP}}, 56, 1, 100,
		Duration(5*time.Second), "UTC"
}

// maxPermits is the largest value of max and burst.
const maxPermits = math.MaxInt32

// UnmarshalText parses the short forms: 100/15m, 20/s, 10000/day, or the name of a limit.
func (l *Limit) UnmarshalText(text []byte) error {
	l.Defaults()
	count, window, found := strings.Cut(string(text), "/")
	if !found {
		return l.readUse(count)
	}
	count = strings.Trim(count, " ")
	n, err := strconv.ParseUint(count, 10, 31)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s is out of range: use 0 to %d", count, maxPermits)
	case err != nil:
		return fmt.Errorf("%q is not a limit: write a number, a slash and a window, such as 100/15m, 20/s or 10000/day",
			text)
	}
	l.Max = int(n)
	return l.Window.UnmarshalText([]byte(strings.Trim(window, " ")))
}

// readUse parses the name of a limit. Digits alone are refused, since the window is probably missing: a limit with such
// a name needs use: "100".
func (l *Limit) readUse(name string) error {
	switch {
	case onlyDigits(name):
		return fmt.Errorf("%q is a limit without its window: write both, such as %s/15m or %[2]s/day", name, name)
	case !ValidName(name):
		return fmt.Errorf("%q is not a limit: write a number, a slash and a window, such as 100/15m, 20/s or "+
			"10000/day, or the name of a limit under limits", name)
	}
	l.Use = name
	return nil
}

func onlyDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// Short returns the short form, if there is one.
func (l *Limit) Short() (string, bool) {
	var standard Limit
	standard.Defaults()
	standard.Max, standard.Window, standard.Use = l.Max, l.Window, l.Use
	switch {
	case !l.equal(&standard):
		return "", false
	case l.Use != "":
		return l.Use, l.Max == 0 && l.Window == Window{} && ValidName(l.Use) && !onlyDigits(l.Use)
	case l.Window == Window{} || l.Max < 0 || l.Max > maxPermits:
		return "", false
	}
	return strconv.Itoa(l.Max) + "/" + l.Window.String(), true
}

func (l *Limit) equal(m *Limit) bool {
	a, b := *l, *m
	if !a.Key.equal(b.Key) || !a.Exempt.none() || !b.Exempt.none() {
		return false
	}
	a.Key, b.Key, a.Exempt, b.Exempt = nil, nil, Exempt{}, Exempt{}
	return a.scalars() == b.scalars()
}

// AppendAddress appends the address that a client is counted by: its own, or for IPv6 that of its network, all of which
// may belong to one client.
func (l *Limit) AppendAddress(b []byte, addr netip.Addr) []byte {
	if addr.Is4() || addr.Is4In6() {
		return addr.Unmap().AppendTo(b)
	}
	network, err := addr.Prefix(l.IPv6Prefix)
	if err != nil {
		return append(b, "unknown"...)
	}
	return network.AppendTo(b)
}

// Room returns how many permits can be spent at once: the size of a bucket, or max.
func (l *Limit) Room() int {
	if l.Algorithm == AlgorithmBucket && l.Burst > 0 {
		return l.Burst
	}
	return l.Max
}

// scalars returns the comparable values of a limit, in the order of scalarKeys.
func (l *Limit) scalars() [18]any {
	return [...]any{
		l.Max, l.Window, l.Use, l.Name, l.Algorithm, l.Align, l.Zone, l.Burst, l.IPv6Prefix, l.Cost, l.Shadow,
		l.SkipFailed, l.SkipSuccessful, l.StoreAway,
		l.Mode, l.MaxWait, l.MaxQueue, l.Headers,
	}
}

var scalarKeys = [18]string{
	"max", "window", "use", "name", "algorithm", "align", "zone", "burst", "ipv6_prefix",
	"cost", "shadow", "skip_failed", "skip_successful", "store_away",
	"mode", "max_wait", "max_queue", "headers",
}

// Window is the length of a limit's window: a duration, or a unit of the calendar.
type Window struct {
	Length   time.Duration // of a calendar unit, the longest
	Calendar Calendar
}

// Calendar is a unit of the calendar; empty for windows of a fixed length.
type Calendar string

// The values of Calendar.
const (
	CalendarDay   Calendar = "day"
	CalendarMonth Calendar = "month"
)

const day = 24 * time.Hour

// UnmarshalText parses a duration (15m; s, m and h alone stand for one of them), day or month.
func (w *Window) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case string(CalendarDay):
		*w = Window{day, CalendarDay}
		return nil
	case string(CalendarMonth):
		*w = Window{31 * day, CalendarMonth}
		return nil
	case "s", "m", "h":
		text = []byte("1" + s)
	}
	var d Duration
	if d.UnmarshalText(text) != nil || d == 0 {
		return fmt.Errorf("%q is not a window: %s", text,
			suggestDuration(string(text), "write a duration such as 1s, 15m or 24h, or day or month"))
	}
	*w = Window{Length: d.Std()}
	return nil
}

// MarshalText writes the window as UnmarshalText reads it.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// String writes the window as UnmarshalText reads it.
func (w Window) String() string {
	if w.Calendar != "" {
		return string(w.Calendar)
	}
	return shortDuration(w.Length)
}

// Algorithm is how a limit counts.
type Algorithm string

// The values of Algorithm.
const (
	AlgorithmFixed      Algorithm = "fixed"      // consecutive windows
	AlgorithmSliding    Algorithm = "sliding"    // never more than max in any span of the window's length
	AlgorithmBucket     Algorithm = "bucket"     // burst at once, and max per window on average (GCRA)
	AlgorithmConcurrent Algorithm = "concurrent" // max requests in flight
)

// UnmarshalText accepts the four values of Algorithm.
func (a *Algorithm) UnmarshalText(text []byte) error {
	return oneOf(a, text, AlgorithmFixed, AlgorithmSliding, AlgorithmBucket, AlgorithmConcurrent)
}

// Align is where fixed windows begin.
type Align string

// The values of Align.
const (
	AlignFirst Align = "first" // with the first request of a client
	AlignClock Align = "clock" // at multiples of the window since midnight of 1 January 1970 in the limit's zone
)

// UnmarshalText accepts the two values of Align.
func (a *Align) UnmarshalText(text []byte) error { return oneOf(a, text, AlignFirst, AlignClock) }

// StoreAway is what happens to requests while the store can't be reached.
type StoreAway string

// The values of StoreAway.
const (
	StoreAwayClosed StoreAway = "closed" // 503
	StoreAwayOpen   StoreAway = "open"   // they are let through, uncounted
	StoreAwayShare  StoreAway = "share"  // they are let through as long as the node's share lasts
)

// UnmarshalText accepts the three values of StoreAway.
func (s *StoreAway) UnmarshalText(text []byte) error {
	return oneOf(s, text, StoreAwayClosed, StoreAwayOpen, StoreAwayShare)
}

// LimitMode is what happens to requests beyond a limit.
type LimitMode string

// The values of LimitMode.
const (
	LimitModeRefuse LimitMode = "refuse" // 429
	LimitModeQueue  LimitMode = "queue"  // they wait for a permit
)

// UnmarshalText accepts the two values of LimitMode.
func (m *LimitMode) UnmarshalText(text []byte) error {
	return oneOf(m, text, LimitModeRefuse, LimitModeQueue)
}

// HeaderForm is the form of the RateLimit fields.
type HeaderForm string

// The values of HeaderForm: drafts of draft-ietf-httpapi-ratelimit-headers, and the older X-RateLimit fields.
const (
	HeaderDraft8 HeaderForm = "draft-8"
	HeaderDraft7 HeaderForm = "draft-7"
	HeaderDraft6 HeaderForm = "draft-6"
	HeaderLegacy HeaderForm = "legacy"
	HeaderNone   HeaderForm = "none"
)

// UnmarshalText accepts the five values of HeaderForm.
func (h *HeaderForm) UnmarshalText(text []byte) error {
	return oneOf(h, text, HeaderDraft8, HeaderDraft7, HeaderDraft6, HeaderLegacy, HeaderNone)
}

// Zone is a time zone by its name in the IANA database.
type Zone string

// UnmarshalText checks that the zone is known. Local, the machine's zone, is refused: all nodes must use the same.
func (z *Zone) UnmarshalText(text []byte) error {
	unusual := len(text) == 0 ||
		strings.Trim(string(text), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") != ""
	if loc, err := time.LoadLocation(string(text)); err != nil || loc == time.Local || unusual {
		return fmt.Errorf("%q is not a time zone: write a name such as UTC, Europe/Berlin or America/New_York", text)
	}
	*z = Zone(text)
	return nil
}

// Location returns the zone as a time.Location; UTC for an empty one.
func (z Zone) Location() *time.Location {
	loc, err := time.LoadLocation(string(z))
	if err != nil {
		return time.UTC
	}
	return loc
}

// Exempt says which requests a limit doesn't count.
type Exempt struct {
	Clients []Prefix  `yaml:"clients" doc:"Client addresses or CIDR ranges."`
	Keys    []string  `yaml:"keys" doc:"Values of the limit's key, such as an API key."`
	Paths   []Pattern `yaml:"paths" doc:"Path patterns: literal segments, {param} segments, a trailing /*."`
}

func (e *Exempt) none() bool { return len(e.Clients) == 0 && len(e.Keys) == 0 && len(e.Paths) == 0 }

// LimitKeys says whose requests are counted together: those with the same values of all parts.
type LimitKeys []LimitKey

// TakesOne allows a single part to be written without a list.
func (LimitKeys) TakesOne() {}

func (k LimitKeys) equal(m LimitKeys) bool {
	if len(k) != len(m) {
		return false
	}
	for i := range k {
		if k[i] != m[i] {
			return false
		}
	}
	return true
}

// LimitKey is one part of the key that distinguishes clients.
type LimitKey struct {
	Kind KeyKind
	Name string // of a header field, cookie or parameter
}

// KeyKind is the kind of a LimitKey.
type KeyKind string

// The values of KeyKind.
const (
	KeyIP     KeyKind = "ip"
	KeyAll    KeyKind = "all" // all requests are counted together
	KeyHeader KeyKind = "header"
	KeyCookie KeyKind = "cookie"
	KeyParam  KeyKind = "param" // of the route's path
)

var errLimitKey = errors.New("write ip, all, header:NAME, cookie:NAME or param:NAME")

// UnmarshalText reads ip, all, header:NAME, cookie:NAME or param:NAME.
func (k *LimitKey) UnmarshalText(text []byte) error {
	kind, name, named := strings.Cut(string(text), ":")
	switch KeyKind(kind) {
	case KeyIP, KeyAll:
		if named {
			return fmt.Errorf("%q is not a key of limits: %w", text, errLimitKey)
		}
	case KeyHeader, KeyCookie:
		var part RequestPart
		if part.UnmarshalText(text) != nil {
			return fmt.Errorf("%q is not a key of limits: %w", text, errLimitKey)
		}
	case KeyParam:
		if !validParam(name) {
			return fmt.Errorf("%q is not a key of limits: %w", text, errLimitKey)
		}
	default:
		return fmt.Errorf("%q is not a key of limits: %w", text, errLimitKey)
	}
	k.Kind, k.Name = KeyKind(kind), name
	return nil
}

// MarshalText writes the part as UnmarshalText reads it.
func (k LimitKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// String writes the part as UnmarshalText reads it.
func (k LimitKey) String() string {
	if k.Name == "" {
		return string(k.Kind)
	}
	return string(k.Kind) + ":" + k.Name
}

// Resolve returns the limit that applies: for a use of a named limit, that limit with the use's own settings. A setting
// with its default value counts as not set: a use can't reset key to ip, or cost to 1, where the named limit has
// others.
func (l Limit) Resolve(named map[string]Limit) Limit {
	if l.Use == "" {
		return l
	}
	out := named[l.Use]
	var standard Limit
	standard.Defaults()
	out.Name = l.Use
	if !l.Key.equal(standard.Key) {
		out.Key = l.Key
	}
	if l.Cost != standard.Cost {
		out.Cost = l.Cost
	}
	if !l.Exempt.none() {
		out.Exempt = l.Exempt
	}
	out.SkipFailed, out.SkipSuccessful = out.SkipFailed || l.SkipFailed, out.SkipSuccessful || l.SkipSuccessful
	return out
}
