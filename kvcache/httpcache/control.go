package httpcache

import (
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"millrace/node"
)

// Control is what the directives of Cache-Control, or of a targeted field in its place, say together (RFC 9111 §5.2).
// Times that are absent are negative.
type Control struct {
	NoStore, NoCache, Private, Public      bool
	MustRevalidate, ProxyRevalidate        bool
	MustUnderstand, NoTransform, Immutable bool
	OnlyIfCached                           bool
	NoCacheFields, PrivateFields           []string // of the qualified forms, which don't set NoCache and Private
	MaxAge, SMaxAge                        time.Duration
	StaleWhileRevalidate, StaleIfError     time.Duration
	MaxStale, MinFresh                     time.Duration // of requests
	// a targeted field decided: Cache-Control and Expires don't count
	Targeted bool
	Present  bool // there was any directive

	// one that can be read says that the answer to a request with Authorization is for all (RFC 9111 §3.5)
	shared bool
	// must-understand, and it can be read: no-store counts only where the status isn't understood (§5.2.2.3)
	overrules bool
}

// Absent is the value of a time that no directive named.
const Absent time.Duration = -1

// Forever is the time of a max-stale without argument.
const Forever time.Duration = 1<<63 - 1

func newControl() Control {
	return Control{
		MaxAge: Absent, SMaxAge: Absent, StaleWhileRevalidate: Absent, StaleIfError: Absent,
		MaxStale: Absent, MinFresh: Absent,
	}
}

// ParseControl reads Cache-Control. Names have no case; of a directive that is repeated the most restrictive counts; an
// argument that can't be read makes a response stale (RFC 9111 §4.2.1, §5.2). Pragma: no-cache counts where there is no
// Cache-Control, in requests only (§5.4), for which request is true.
func ParseControl(h node.Header, request bool) Control {
	c := newControl()
	lines := h.Values("Cache-Control")
	for _, p := range pairs(lines) {
		c.take(p)
	}
	if request && len(lines) == 0 {
		c.NoCache = slices.ContainsFunc(pairs(h.Values("Pragma")), func(p pair) bool { return p.name == "no-cache" })
	}
	return c
}

// take adds one directive.
func (c *Control) take(p pair) {
	c.Present = true
	plain := !p.bad && !p.hasArg // an argument where there is none could take back what the name allows
	switch p.name {
	case "":
		c.unreadable(p.arg)
	case "no-store":
		c.NoStore = true
	case "no-cache":
		c.qualified(p, &c.NoCache, &c.NoCacheFields)
	case "private":
		c.qualified(p, &c.Private, &c.PrivateFields)
	case "public":
		c.Public, c.shared = c.Public || plain, c.shared || plain
	case "must-revalidate":
		c.MustRevalidate, c.shared = true, c.shared || plain
	case "proxy-revalidate":
		c.ProxyRevalidate = true
	case "must-understand":
		c.MustUnderstand, c.overrules = true, c.overrules || plain
	case "no-transform":
		c.NoTransform = true
	case "immutable":
		c.Immutable = c.Immutable || plain
	case "only-if-cached":
		c.OnlyIfCached = true
	default:
		c.takeTime(p)
	}
}

// unreadable notes an element of which nobody knows what was meant, as "private; max-age=60": it counts for what
// forbids most among its words, and at least the response is validated before each use.
func (c *Control) unreadable(text string) {
	c.NoCache = true
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !isToken(string(r)) }) {
		c.NoStore = c.NoStore || word == "no-store"
		c.Private = c.Private || word == "private"
	}
}

// qualified notes a directive that may name fields; if it can't be read, it counts for the whole response.
func (c *Control) qualified(p pair, whole *bool, fields *[]string) {
	if !p.hasArg || p.bad {
		*whole = true
		return
	}
	names := words([]string{p.arg})
	if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return !isToken(n) }) {
		*whole = true
		return
	}
	*fields = append(*fields, names...)
}

func (c *Control) takeTime(p pair) {
	n, ok := seconds(p.arg)
	d := time.Duration(n) * time.Second
	if ok = ok && !p.bad; !ok {
		d = 0
	}
	switch p.name {
	case "max-age":
		restrict(&c.MaxAge, d)
	case "s-maxage":
		restrict(&c.SMaxAge, d)
		c.shared = c.shared || ok
	case "stale-while-revalidate":
		restrict(&c.StaleWhileRevalidate, d)
	case "stale-if-error":
		restrict(&c.StaleIfError, d)
	case "max-stale":
		if !p.hasArg {
			d = Forever
		}
		restrict(&c.MaxStale, d)
	case "min-fresh":
		c.MinFresh = max(c.MinFresh, d)
	}
}

// restrict keeps the smaller of two times, whichever is there.
func restrict(have *time.Duration, d time.Duration) {
	if *have == Absent || d < *have {
		*have = d
	}
}

// ResponseControl gives the directives that count for this cache: those of the first targeted field that is present and
// valid (RFC 9213 §2.2), or else those of Cache-Control. targets names the targeted fields in their order.
func ResponseControl(h node.Header, targets []string) Control {
	for _, name := range targets {
		if c, ok := parseTargeted(h.Values(name)); ok {
			return c
		}
	}
	return ParseControl(h, false)
}

// parseTargeted reads a targeted field: a Dictionary (RFC 9213 §2.1). One that is empty or can't be parsed is ignored.
func parseTargeted(lines []string) (Control, bool) {
	if len(lines) == 0 {
		return Control{}, false
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return Control{}, false
	}
	c := newControl()
	c.Targeted = true
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		c.take(targetedPair(name, member))
	}
	return c, true
}

// targetedPair writes a member of the dictionary as the directive that it stands for. A value of a type that the
// directive doesn't have is a bad argument, and so is false, which RFC 9213 §2.1 gives no meaning.
func targetedPair(name string, m httpsfv.Member) pair {
	p := pair{name: name, hasArg: true}
	item, ok := m.(httpsfv.Item)
	if !ok {
		p.bad = true
		return p
	}
	switch v := item.Value.(type) {
	case bool:
		p.hasArg, p.bad = false, !v
	case int64:
		if p.arg = digits(v); p.arg == "" {
			p.bad = true
		}
	case string:
		p.arg, p.bad = v, name != "no-cache" && name != "private"
	case httpsfv.Token:
		p.arg, p.bad = string(v), name != "no-cache" && name != "private"
	default:
		p.bad = true
	}
	return p
}

func digits(n int64) string {
	if n < 0 {
		return ""
	}
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}
