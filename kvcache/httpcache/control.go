package httpcache

import (
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"millrace/node"
)

// Control is what the directives of Cache-Control, or of a targeted field in its place, say together (RFC 9111 §5.2).
// Times that aren't named are Absent.
type Control struct {
	NoStore, NoCache, Private, Public      bool
	MustRevalidate, ProxyRevalidate        bool
	MustUnderstand, NoTransform, Immutable bool
	OnlyIfCached                           bool
	NoCacheFields, PrivateFields           []string // of the qualified forms, which don't set NoCache and Private
	MaxAge, SMaxAge                        time.Duration
	StaleWhileRevalidate, StaleIfError     time.Duration
	MaxStale, MinFresh                     time.Duration // of requests
	// The directives are from a targeted field: Cache-Control and Expires don't count.
	Targeted bool
	Present  bool // there was at least one directive

	// A valid directive allows storing the response to a request with Authorization (RFC 9111 §3.5).
	sharable bool
	// There is a valid must-understand: no-store counts only if the status isn't understood (§5.2.2.3).
	overridesNoStore bool
}

// Absent is the value of a time that no directive names.
const Absent time.Duration = -1

// Forever is the time of a max-stale without an argument.
const Forever time.Duration = 1<<63 - 1

func newControl() Control {
	return Control{
		MaxAge: Absent, SMaxAge: Absent, StaleWhileRevalidate: Absent, StaleIfError: Absent,
		MaxStale: Absent, MinFresh: Absent,
	}
}

// ParseControl parses Cache-Control. Names are case-insensitive. Of a repeated directive the most restrictive one
// counts. An invalid argument makes a response stale (RFC 9111 §4.2.1, §5.2). In a request (request is true), Pragma:
// no-cache counts if there is no Cache-Control (§5.4).
func ParseControl(h node.Header, request bool) Control {
	c := newControl()
	lines := h.Values("Cache-Control")
	for _, p := range pairs(lines) {
		c.add(p)
	}
	if request && len(lines) == 0 {
		c.NoCache = slices.ContainsFunc(pairs(h.Values("Pragma")), func(p pair) bool { return p.name == "no-cache" })
	}
	return c
}

// add adds one directive.
func (c *Control) add(p pair) {
	c.Present = true
	plain := !p.malformed && !p.hasArg // an unexpected argument could restrict what the name allows
	switch p.name {
	case "":
		c.addUnreadable(p.arg)
	case "no-store":
		c.NoStore = true
	case "no-cache":
		c.addQualified(p, &c.NoCache, &c.NoCacheFields)
	case "private":
		c.addQualified(p, &c.Private, &c.PrivateFields)
	case "public":
		c.Public, c.sharable = c.Public || plain, c.sharable || plain
	case "must-revalidate":
		c.MustRevalidate, c.sharable = true, c.sharable || plain
	case "proxy-revalidate":
		c.ProxyRevalidate = true
	case "must-understand":
		c.MustUnderstand, c.overridesNoStore = true, c.overridesNoStore || plain
	case "no-transform":
		c.NoTransform = true
	case "immutable":
		c.Immutable = c.Immutable || plain
	case "only-if-cached":
		c.OnlyIfCached = true
	default:
		c.addTime(p)
	}
}

// addUnreadable adds an element that can't be parsed, such as "private; max-age=60". It counts as the most restrictive
// of its words, and at least makes the response be validated before each use.
func (c *Control) addUnreadable(text string) {
	c.NoCache = true
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !isToken(string(r)) }) {
		c.NoStore = c.NoStore || word == "no-store"
		c.Private = c.Private || word == "private"
	}
}

// addQualified adds a directive that may name fields. If they can't be parsed, it applies to the whole response.
func (c *Control) addQualified(p pair, whole *bool, fields *[]string) {
	if !p.hasArg || p.malformed {
		*whole = true
		return
	}
	names := splitList([]string{p.arg})
	if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return !isToken(n) }) {
		*whole = true
		return
	}
	*fields = append(*fields, names...)
}

func (c *Control) addTime(p pair) {
	n, ok := seconds(p.arg)
	d := time.Duration(n) * time.Second
	if ok = ok && !p.malformed; !ok {
		d = 0
	}
	switch p.name {
	case "max-age":
		restrict(&c.MaxAge, d)
	case "s-maxage":
		restrict(&c.SMaxAge, d)
		c.sharable = c.sharable || ok
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

// restrict stores the smaller of two times, ignoring an absent one.
func restrict(have *time.Duration, d time.Duration) {
	if *have == Absent || d < *have {
		*have = d
	}
}

// ResponseControl returns the directives that apply to this cache: those of the first targeted field that is present
// and valid (RFC 9213 §2.2), otherwise those of Cache-Control. targets are the names of the targeted fields in order.
func ResponseControl(h node.Header, targets []string) Control {
	for _, name := range targets {
		if c, ok := parseTargeted(h.Values(name)); ok {
			return c
		}
	}
	return ParseControl(h, false)
}

// parseTargeted parses a targeted field, a Dictionary (RFC 9213 §2.1). An empty or invalid one is ignored.
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
		c.add(targetedPair(name, member))
	}
	return c, true
}

// targetedPair converts a member of the dictionary to the directive that it stands for. A value of the wrong type is an
// invalid argument, and so is false, to which RFC 9213 §2.1 gives no meaning.
func targetedPair(name string, m httpsfv.Member) pair {
	p := pair{name: name, hasArg: true}
	item, ok := m.(httpsfv.Item)
	if !ok {
		p.malformed = true
		return p
	}
	switch v := item.Value.(type) {
	case bool:
		p.hasArg, p.malformed = false, !v
	case int64:
		if p.arg = digits(v); p.arg == "" {
			p.malformed = true
		}
	case string:
		p.arg, p.malformed = v, name != "no-cache" && name != "private"
	case httpsfv.Token:
		p.arg, p.malformed = string(v), name != "no-cache" && name != "private"
	default:
		p.malformed = true
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
