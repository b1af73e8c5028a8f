package site_test

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"millrace/node/site"
)

func TestParseHeaders(t *testing.T) {
	text := "# all pages\r\n/*\r\n  X-Frame-Options: DENY\r\n\t! X-Powered-By\r\n\r\n" +
		"/assets/:name.js   # scripts\n  # cached\n  Cache-Control:public, max-age=60\n" +
		"  Link: </a>; rel=preload\n  Link: </b>\n"
	rules, wrong := site.ParseHeaders("_headers", []byte(text))
	if len(wrong) > 0 {
		t.Errorf("%v", wrong)
	}
	want := []site.HeaderRule{
		{
			Line: 2, Path: "/*", Set: []site.HeaderField{{Name: "X-Frame-Options", Value: "DENY"}},
			Unset: []string{"X-Powered-By"},
		},
		{Line: 6, Path: "/assets/:name.js", Set: []site.HeaderField{
			{Name: "Cache-Control", Value: "public, max-age=60"},
			{Name: "Link", Value: "</a>; rel=preload"},
			{Name: "Link", Value: "</b>"},
		}},
	}
	if !reflect.DeepEqual(rules, want) {
		t.Errorf("got  %+v\nwant %+v", rules, want)
	}
	indexOf(t, site.Options{}, withRules(t, "", text)) // and Decode takes them
}

func TestParseHeadersMistakes(t *testing.T) {
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, "  X-%d: y\n", i)
	}
	long := strings.Repeat("x", 8000)
	for text, want := range map[string]string{
		"  X-A: b":                           `1:3: the field stands before any path`,
		"  /a":                               `1:3: the path is indented (paths begin at the margin)`,
		"X-A: b":                             `1:1: "X-A:" isn't a path (indent the fields of a path)`,
		"/a\n  X: y\nX-A: b":                 `3:1: "X-A:" isn't a path`,
		"/a":                                 `1:1: the path has no fields (indent them below it)`,
		"/a b\n  X: y":                       `1:4: something follows the path (write %20`,
		"https://x.pages.dev/*\n  X: y":      `1:1: it is a URL, and rules are for paths`,
		"/a/*/*\n  X: y":                     `1:1: it has two *`,
		"/a\n  X-A":                          `2:3: "X-A" isn't a field (write Name: value, or ! Name)`,
		"/a\n  X-A:":                         `2:3: X-A has no value (write ! X-A to remove it)`,
		"/a\n  X A: b":                       `2:3: "X A" is not a header field name`,
		"/é\n  É: b":                         `2:3: "É" is not a header field name`,
		"/a\n  : b":                          `2:3: "" is not a header field name`,
		"/a\n  X-A: caf\u00e9":               `2:3: the value of X-A has the character 'é'`,
		"/a\n  X-A: b\x00c":                  `2:3: the value of X-A has the character '\x00'`,
		"/a\n  X-A: b\rX-B: c":               `2:3: the value of X-A has the character '\r'`,
		"/a\n  content-length: 1":            `2:3: content-length can't be set: the node frames`,
		"/a\n  Transfer-Encoding: chunked":   `2:3: Transfer-Encoding can't be set`,
		"/a\n  Connection: close":            `2:3: Connection can't be set`,
		"/a\n  Content-Encoding: br":         `2:3: Content-Encoding can't be set: the node chooses the coding`,
		"/a\n  ETag: \"x\"":                  `2:3: ETag can't be set: the tag follows from the content`,
		"/a\n  Location: /b":                 `2:3: Location can't be set: write a rule in _redirects`,
		"/a\n  Millrace-Deploy: x":           `2:3: Millrace-Deploy can't be set`,
		"/a\n  Basic-Auth: me:secret":        `2:3: Basic-Auth can't be set: it would be sent to everybody`,
		"/a\n  Service-Worker-Allowed: /":    `2:3: Service-Worker-Allowed can't be set`,
		"/a\n  X-Content-Type-Options: none": `2:3: X-Content-Type-Options is always nosniff`,
		"/a\n  ! X-Content-Type-Options":     `2:3: X-Content-Type-Options is always sent`,
		"/a\n  ! Vary":                       `2:3: Vary is always sent`,
		"/a\n  ! Date":                       `2:3: Date can't be set`,
		"/a/*\n  Link: </:splat>":            `2:3: the value has :splat, and placeholders aren't replaced`,
		"/a\n  X-A: b\n\n/a\n  x-a: c":       `5:3: line 2 says something about this field for the same path`,
		"/a\n" + many.String():               `1:1: more than 64 fields in one rule`,
		"/a\n  X-A: " + long + long:          `2:3: the value of X-A has 16000 bytes, more than 8192`,
		"/a\n  X: " + long + "\n  Y: " + long + "\n/b\n  Z: " + long + "\n  Z: " + long + "\n  Z: " + long: `4:1: the fields that one response may get`,
		"/a\n  X-Content-Type-Options: nosniff": "",
		"/a\n  Content-Type: application/json":  "",
		"/a\n  Link: </:splat>":                 "",
	} {
		_, wrong := site.ParseHeaders("_headers", []byte(text))
		switch {
		case want == "" && len(wrong) > 0:
			t.Errorf("%q: %v", text, wrong)
		case want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0].String(), "_headers:"+want)):
			t.Errorf("%.80q has %q, want %q", text, wrong, want)
		}
	}
}

// A hundred mistakes are enough, and no count of rules below 10,000 is a mistake.
func TestManyRules(t *testing.T) {
	var headers, redirects, bad strings.Builder
	for i := range site.MaxRules {
		fmt.Fprintf(&headers, "/h/%d/*\n  X-A: b\n", i)
		fmt.Fprintf(&redirects, "/r/%d/* /x/%d\n", i, i)
		bad.WriteString("bad\n")
	}
	m := withRules(t, redirects.String(), headers.String(), "/x/9999.html")
	x := indexOf(t, site.Options{}, m)
	if got := show(x.Find("/r/9999/a")); got != "302 to /x/9999" {
		t.Errorf("the last rule gives %s", got)
	}
	if r := x.Rules(nil, "/h/9999/a"); r == nil || len(r.Set) != 1 {
		t.Errorf("the last header rule gives %+v", r)
	}
	if _, wrong := site.ParseRedirects("_redirects", []byte(bad.String())); len(wrong) != 100 {
		t.Errorf("%d mistakes", len(wrong))
	}
	if _, wrong := site.ParseRedirects("_redirects", []byte(redirects.String()+"/one /more\n")); !site.Wrong(wrong) {
		t.Error("10,001 redirects have no mistake")
	}
	if _, wrong := site.ParseHeaders("_headers", []byte(headers.String()+"/one\n  X: y\n")); !site.Wrong(wrong) {
		t.Error("10,001 header rules have no mistake")
	}
}

const someHeaders = `
/*
  Cache-Control: max-age=1
  X-Frame-Options: DENY
  X-All: yes
/docs/*
  Cache-Control: max-age=2
  ! x-frame-options
/docs/:page
  Cache-Control: max-age=3
/docs/intro
  Cache-Control: max-age=4
  Link: </a>
  Link: </b>
/*.html
  X-Name: html
/docs/*
  X-Frame-Options: SAMEORIGIN
/none/*
  ! X-Frame-Options
  ! X-All
  ! Cache-Control
`

func TestRules(t *testing.T) {
	x := indexOf(t, site.Options{}, withRules(t, "", someHeaders, "/docs/intro.html", "/index.html"))
	for path, want := range map[string]string{
		"/":                "X-All: yes; Cache-Control: max-age=1; X-Frame-Options: DENY",
		"/docs":            "X-All: yes; Cache-Control: max-age=2; X-Frame-Options: SAMEORIGIN",
		"/docs/x":          "X-All: yes; Cache-Control: max-age=3; X-Frame-Options: SAMEORIGIN",
		"/docs/x/y":        "X-All: yes; Cache-Control: max-age=2; X-Frame-Options: SAMEORIGIN",
		"/docs/intro":      "X-All: yes; Cache-Control: max-age=4; Link: </a>; Link: </b>; X-Frame-Options: SAMEORIGIN",
		"/docs/intro.html": "X-All: yes; Cache-Control: max-age=3; X-Name: html; X-Frame-Options: SAMEORIGIN",
		"/none/x":          "! Cache-Control; ! X-All; ! X-Frame-Options",
		"/none/%40":        "! Cache-Control; ! X-All; ! X-Frame-Options",
	} {
		got := map[string]bool{}
		for _, e := range []*site.Entry{nil, x.Entry("/docs/intro.html"), x.Entry("/index.html")} {
			r := x.Rules(e, path)
			var parts []string
			for _, f := range r.Set {
				parts = append(parts, f.Name+": "+f.Value)
			}
			for _, name := range r.Unset {
				parts = append(parts, "! "+name)
			}
			got[fmt.Sprint(r.Number, ordered(parts))] = true
			if r != x.Rules(e, path) {
				t.Errorf("%s has other rules the second time", path)
			}
		}
		if len(got) != 1 {
			t.Errorf("%s has %v, which depends on the file", path, got)
		}
		for s := range got {
			if _, s, _ = strings.Cut(s, " "); s != fmt.Sprint(ordered(strings.Split(want, "; "))) {
				t.Errorf("%s has %s, want %s", path, s, want)
			}
		}
	}
	none := index(t, site.Options{}, "/index.html")
	if r := none.Rules(none.Entry("/index.html"), "/"); r != nil || r.Removes("X-All") {
		t.Errorf("no rules give %+v", r)
	}
	if v, ok := x.Rules(nil, "/docs/x").Get("cache-control"); !ok || v != "max-age=3" {
		t.Errorf("Cache-Control is %q, %v", v, ok)
	}
	if !x.Rules(nil, "/none/x").Removes("x-all") || x.Rules(nil, "/none/x").Removes("x-none") {
		t.Error("Removes tells removed fields wrongly")
	}
}

// Clients choose paths, so what is kept for them is bounded; beyond that, rules are right and have no number.
func TestRulesAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 12 {
		fmt.Fprintf(&text, "/*%c*\n  X-%d: y\n", 'a'+rune(i), i)
	}
	rules := strings.ReplaceAll(text.String(), "*\n", "\n") // /*a, /*b, ...: of the last letter
	var more strings.Builder
	for i := range 1100 {
		fmt.Fprintf(&more, "/p/%d\n  X-P: %d\n", i, i)
	}
	x := indexOf(t, site.Options{}, withRules(t, "", rules+more.String()))
	numbers := map[int]bool{}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		wait.Go(func() {
			for i := range 1100 {
				r := x.Rules(nil, fmt.Sprintf("/p/%d", i))
				if v, _ := r.Get("X-P"); v != strconv.Itoa(i) {
					t.Errorf("/p/%d has X-P %q", i, v)
				}
				mu.Lock()
				numbers[r.Number] = true
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if len(numbers) != 1024+1 || !numbers[-1] || !numbers[0] || !numbers[1023] {
		t.Errorf("%d numbers, want 0 to 1023 and -1", len(numbers))
	}
}
