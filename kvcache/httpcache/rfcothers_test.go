package httpcache_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"millrace/kvcache/httpcache"
)

// Checklist item 43.
func TestRFC9211Section2CacheStatus(t *testing.T) {
	for _, row := range []struct {
		name   string
		status httpcache.Status
		want   string
	}{
		{"a hit", httpcache.Status{Hit: true, HasTTL: true, TTL: 61 * time.Second}, "Millrace; hit; ttl=61"},
		{"a stale hit", httpcache.Status{Hit: true, HasTTL: true, TTL: -61 * time.Second}, "Millrace; hit; ttl=-61"},
		{
			"stale for less than a second",
			httpcache.Status{Hit: true, HasTTL: true, TTL: -time.Millisecond},
			"Millrace; hit; ttl=-1",
		},
		{
			"fresh for less than a second",
			httpcache.Status{Hit: true, HasTTL: true, TTL: time.Millisecond},
			"Millrace; hit; ttl=0",
		},
		{
			"a miss",
			httpcache.Status{Fwd: httpcache.FwdURIMiss, FwdStatus: 200, Stored: true, Collapsed: true},
			"Millrace; fwd=uri-miss; fwd-status=200; stored; collapsed",
		},
		{
			"validated",
			httpcache.Status{Fwd: httpcache.FwdStale, FwdStatus: 304, HasTTL: true},
			"Millrace; fwd=stale; fwd-status=304; ttl=0",
		},
		{"a hit wasn't forwarded", httpcache.Status{Hit: true, Fwd: httpcache.FwdStale}, "Millrace; hit"},
		{
			"what has no meaning without fwd",
			httpcache.Status{Hit: true, Stored: true, Collapsed: true},
			"Millrace; hit",
		},
		{"a key", httpcache.Status{Hit: true, Key: `/a"b\cä`}, `Millrace; hit; key="/a\"b\\c??"`},
		{
			"a detail",
			httpcache.Status{Fwd: httpcache.FwdBypass, Detail: "no-store"},
			"Millrace; fwd=bypass; detail=no-store",
		},
		{
			"a detail that is no token",
			httpcache.Status{Fwd: httpcache.FwdMiss, Detail: "a b; hit"},
			`Millrace; fwd=miss; detail="a b; hit"`,
		},
		{
			"a detail that begins with a digit",
			httpcache.Status{Fwd: httpcache.FwdMiss, Detail: "3 ways"},
			`Millrace; fwd=miss; detail="3 ways"`,
		},
	} {
		got := string(row.status.Append(nil))
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		if _, err := httpsfv.UnmarshalList([]string{got}); err != nil {
			t.Errorf("%s: %s: %v", row.name, got, err)
		}
	}
	for _, fwd := range []string{
		httpcache.FwdBypass, httpcache.FwdMethod, httpcache.FwdURIMiss, httpcache.FwdVary, httpcache.FwdMiss,
		httpcache.FwdRequest, httpcache.FwdStale, httpcache.FwdPartial,
	} { // RFC 9211 §2.2 lists them
		if !slices.Contains([]string{
			"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale",
			"partial",
		}, fwd) {
			t.Errorf("fwd=%s isn't registered", fwd)
		}
	}
}

// Checklist items 33, 35.
func TestRFC9875CacheGroups(t *testing.T) {
	const origin = "https://a"
	for _, row := range []struct {
		name   string
		fields []string
		want   []string
	}{
		{"none", nil, nil},
		{"a list of strings", []string{`Cache-Groups: "a", "b"`}, []string{"https://a a", "https://a b"}},
		{"on two lines", []string{`Cache-Groups: "a"`, `Cache-Groups: "b"`}, []string{"https://a a", "https://a b"}},
		{"case matters", []string{`Cache-Groups: "a", "A"`}, []string{"https://a a", "https://a A"}},
		{"parameters are ignored", []string{`Cache-Groups: "a";x=1`}, []string{"https://a a"}},
		{"what is no string is ignored", []string{`Cache-Groups: a, 1, ("b"), "c"`}, []string{"https://a c"}},
		{"what can't be read is ignored", []string{`Cache-Groups: "a`}, nil},
		{"Cache-Tag with commas", []string{"Cache-Tag: a,b, c"}, []string{"a", "b", "c"}},
		{"Surrogate-Key with spaces", []string{"Surrogate-Key: a  b"}, []string{"a", "b"}},
		{"xkey on two lines", []string{"xkey: a", "xkey: b"}, []string{"a", "b"}},
		{"a tag too long", []string{"Cache-Tag: a " + strings.Repeat("x", 257)}, []string{"a"}},
	} {
		if got := httpcache.Tags(head(row.fields...), origin); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	h := head(`Cache-Group-Invalidation: "a", b, "c";x`, `Cache-Groups: "d"`)
	if got, want := httpcache.InvalidatedGroups(h, origin),
		[]string{"https://a a", "https://a c"}; !slices.Equal(got, want) {
		t.Errorf("invalidated: %q, want %q", got, want)
	}

	// §2: at least 32 groups of 32 characters, whatever else there is and however long the origin.
	var groups, tags []string
	for i := range 32 {
		groups = append(groups, strconv.Quote(strings.Repeat("x", 30)+strconv.Itoa(10+i)))
	}
	for i := range 100 {
		tags = append(tags, "tag"+strconv.Itoa(i))
	}
	long := "https://" + strings.Repeat("a", 253)
	got := httpcache.Tags(head("Cache-Tag: "+strings.Join(tags, ","), "Cache-Groups: "+strings.Join(groups, ", ")),
		long)
	invalidated := httpcache.InvalidatedGroups(head("Cache-Group-Invalidation: "+strings.Join(groups, ", ")), long)
	if len(invalidated) != 32 {
		t.Errorf("%d groups are invalidated, want 32", len(invalidated))
	}
	for _, tag := range invalidated {
		if !slices.Contains(got, tag) {
			t.Fatalf("%q isn't among the tags", tag)
		}
	}
	if len(got) > 64 {
		t.Errorf("%d tags: there is no bound", len(got))
	}
}

// Checklist item 32: draft-ietf-httpbis-no-vary-search.
func TestNoVarySearchField(t *testing.T) {
	for _, row := range []struct {
		name, value, want string // as String writes it; empty: all counts
	}{
		{"order", "key-order", "key-order"},
		{"order counts", "key-order=?0", ""},
		{"some parameters", `params=("a" "b")`, `params=("a" "b")`},
		{"no parameters", "params=()", ""},
		{"all", "params", "params"},
		{"all with an exception", `params, except=("a")`, `params, except=("a")`},
		{"all with no exception", `params, except=()`, "params"},
		{"all together", `except=("a"), key-order, params`, `key-order, params, except=("a")`},
		{"parameters count", "params=?0", ""},
		{"on two lines", "key-order\nNo-Vary-Search: params=(\"a\")", `key-order, params=("a")`},
		{"an exception alone", `except=("a")`, ""},
		{"an exception from some", `params=("a"), except=("b")`, ""},
		{"an empty exception from some", `params=("a"), except=()`, ""},
		{"an exception where parameters count", `params=?0, except=("b"), key-order`, ""},
		{"an exception that is no list", `params, except="a"`, ""},
		{"an exception that is true", `params, except`, ""},
		{"an exception of tokens", `params, except=(a)`, ""},
		{"tokens", "params=(a)", ""},
		{"a string", `params="a"`, ""},
		{"order as a list", `key-order=("a"), params=("a")`, ""},
		{"order as a number", `key-order=1, params=("a")`, ""},
		{"unknown members are ignored", `foo, bar=("x" y), params=("a")`, `params=("a")`},
		{"not a dictionary", "params=(", ""},
		{"empty", "", ""},
		{"names are decoded", `params=("%61+b" "%C3%A9")`, `params=("a+b" "%C3%A9")`},
		{"names with quotes", `params=("a\"b" "c\\d")`, `params=("a%22b" "c%5Cd")`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, ok := httpcache.ParseNoVarySearch(head(splitLines("No-Vary-Search: " + row.value)...))
			if got := s.String(); ok != (row.want != "") || ok && got != row.want {
				t.Fatalf("%q %v, want %q", got, ok, row.want)
			}
			if again, _ := httpcache.ParseNoVarySearch(httpcache.SearchHeader(row.want)); ok &&
				again.String() != row.want {
				t.Errorf("read back: %q", again.String())
			}
		})
	}
	if _, ok := httpcache.ParseNoVarySearch(nil); ok {
		t.Error("no field is a rule")
	}
}

// Checklist item 32: whether two queries get the same response.
func TestNoVarySearchEquivalence(t *testing.T) {
	for _, row := range []struct {
		name, rule, a, b string
		want             bool
	}{
		{"no parameters", "key-order", "", "?", true},
		{"a parameter that doesn't count", `params=("a")`, "?a=1&b=2", "?b=2", true},
		{"one that does", `params=("a")`, "?a=1&b=2", "?a=1&b=3", false},
		{"the only one doesn't", `params=("a")`, "?a=1", "", true},
		{"case counts", `params=("a")`, "?A=1", "", false},
		{"the query is decoded", `params=("a b")`, "?a%20b=1&c", "?a+b=2&c", true},
		{"the rule is decoded", `params=("a%20b")`, "?a+b=1", "", true},
		{"beyond ASCII", `params=("%C3%A9")`, "?%c3%a9=1", "?é=2", true},
		{"without value", `params=("a")`, "?a&b", "?b", true},
		{"empty name", `params=("")`, "?=1&b", "?b", true},
		{"all", "params", "?a=1", "?b=2", true},
		{"all but one, which differs", `params, except=("a")`, "?a=1&b=2", "?a=2&b=2", false},
		{"all but one, which is the same", `params, except=("a")`, "?b=1&a=1", "?a=1&c", true},
		{"all but one that is written oddly", `params, except=("a%25zb")`, "?a%z%62=1", "", false},
		{"order counts", `params=("x")`, "?a=1&b=2", "?b=2&a=1", false},
		{"order doesn't count", "key-order", "?a=1&b=2", "?b=2&a=1", true},
		{"order of one key counts", "key-order", "?a=1&a=2", "?a=2&a=1", false},
		{"order of decoded keys", "key-order", "?%62=1&a=2", "?a=2&%62=1", true},
		{"empty parameters don't count", "key-order", "?a&&b", "?a&b", true},
	} {
		s, ok := httpcache.ParseNoVarySearch(httpcache.SearchHeader(row.rule))
		if !ok {
			t.Errorf("%s: %s is no rule", row.name, row.rule)
		}
		if got := s.Reduce(row.a) == s.Reduce(row.b); got != row.want {
			t.Errorf("%s: %q and %q", row.name, s.Reduce(row.a), s.Reduce(row.b))
		}
	}
	if got := httpcache.ParamName("a%62=1"); got != "ab" {
		t.Error(got)
	}
	if got := (httpcache.Search{}).Reduce("?b&a=1"); got != "?b&a=1" {
		t.Errorf("no rule: %s", got)
	}
}
