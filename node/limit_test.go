package node_test

import (
	"reflect"
	"testing"
	"time"

	"millrace/node"
	"millrace/node/nodetest"
)

func TestWindow(t *testing.T) {
	for input, want := range map[string]struct {
		window  node.Window
		written string
	}{
		"15m":   {node.Window{Length: 15 * time.Minute}, "15m"},
		"1s":    {node.Window{Length: time.Second}, "1s"},
		"24h":   {node.Window{Length: 24 * time.Hour}, "24h"},
		"90m":   {node.Window{Length: 90 * time.Minute}, "1h30m"},
		"100ms": {node.Window{Length: 100 * time.Millisecond}, "100ms"},
		"1h10s": {node.Window{Length: time.Hour + 10*time.Second}, "1h0m10s"},
		"s":     {node.Window{Length: time.Second}, "1s"},
		"m":     {node.Window{Length: time.Minute}, "1m"},
		"h":     {node.Window{Length: time.Hour}, "1h"},
		"day":   {node.Window{Length: 24 * time.Hour, Calendar: node.CalendarDay}, "day"},
		"month": {node.Window{Length: 31 * 24 * time.Hour, Calendar: node.CalendarMonth}, "month"},
	} {
		var w, again node.Window
		if err := w.UnmarshalText([]byte(input)); err != nil || w != want.window {
			t.Errorf("%q gives %+v, %v", input, w, err)
		}
		text, err := w.MarshalText()
		if err != nil || string(text) != want.written || again.UnmarshalText(text) != nil || again != w {
			t.Errorf("%q is written as %q, %v, and read back as %+v", input, text, err, again)
		}
	}
	for _, input := range []string{"", "0", "0s", "15", "d", "-1s", "Day", "days", "week", "99999999h"} {
		var w node.Window
		nodetest.WantError(t, input, w.UnmarshalText([]byte(input)),
			"is not a window: write a duration such as 1s, 15m or 24h, or day or month")
	}
	for input, want := range map[string]string{
		"1d": "24h", "1 m": "1m", "2 weeks": "336h", "0.5hr": "30m",
		"90SEC": "1m30s",
	} {
		var w node.Window
		nodetest.WantError(t, input, w.UnmarshalText([]byte(input)), "is not a window: write "+want)
	}
}

func TestLimitText(t *testing.T) {
	for input, want := range map[string]struct {
		change func(l *node.Limit)
		short  string
	}{
		"100/15m":        {func(l *node.Limit) { l.Max, l.Window = 100, window(t, "15m") }, "100/15m"},
		"20/s":           {func(l *node.Limit) { l.Max, l.Window = 20, window(t, "1s") }, "20/1s"},
		"10000/day":      {func(l *node.Limit) { l.Max, l.Window = 10_000, window(t, "day") }, "10000/day"},
		" 5 / 90s ":      {func(l *node.Limit) { l.Max, l.Window = 5, window(t, "90s") }, "5/1m30s"},
		"0/month":        {func(l *node.Limit) { l.Window = window(t, "month") }, "0/month"},
		"2147483647/24h": {func(l *node.Limit) { l.Max, l.Window = 1<<31-1, window(t, "24h") }, "2147483647/24h"},
		"tenant":         {func(l *node.Limit) { l.Use = "tenant" }, "tenant"},
		"10-day":         {func(l *node.Limit) { l.Use = "10-day" }, "10-day"},
	} {
		expected := standardLimit()
		want.change(&expected)
		var l node.Limit
		if err := l.UnmarshalText([]byte(input)); err != nil || !reflect.DeepEqual(l, expected) {
			t.Errorf("%q gives %+v, %v", input, l, err)
		}
		if short, ok := l.Short(); !ok || short != want.short {
			t.Errorf("%q is written as %q, %t, want %q", input, short, ok, want.short)
		}
	}
	for input, want := range map[string]string{
		"":               "is not a limit: write a number, a slash and a window",
		"Tenant":         "or the name of a limit under limits",
		"100":            `"100" is a limit without its window: write both, such as 100/15m or 100/day`,
		"often/15m":      "is not a limit: write a number",
		"-1/15m":         "is not a limit: write a number",
		"1.5/s":          "is not a limit: write a number",
		"/15m":           "is not a limit: write a number",
		"100/":           "is not a window",
		"100/15":         "is not a window",
		"100/1d":         `"1d" is not a window`,
		"100/15m/2":      "is not a window",
		"2147483648/15m": "2147483648 is out of range: use 0 to 2147483647",
	} {
		var l node.Limit
		nodetest.WantError(t, input, l.UnmarshalText([]byte(input)), want)
	}
}

// TestLimitWithoutShortForm has limits without a short form.
func TestLimitWithoutShortForm(t *testing.T) {
	for name, change := range map[string]func(l *node.Limit){
		"no window":   func(l *node.Limit) { l.Window = node.Window{} },
		"negative":    func(l *node.Limit) { l.Max = -1 },
		"key":         func(l *node.Limit) { l.Key = limitKeys(t, "ip", "header:X-Api-Key") },
		"other key":   func(l *node.Limit) { l.Key = limitKeys(t, "all") },
		"exempt":      func(l *node.Limit) { l.Exempt.Keys = []string{"a"} },
		"algorithm":   func(l *node.Limit) { l.Algorithm = node.AlgorithmBucket },
		"shadow":      func(l *node.Limit) { l.Shadow = true },
		"max_queue":   func(l *node.Limit) { l.MaxQueue = 5 },
		"max and use": func(l *node.Limit) { l.Use = "tenant" },
		"use of digits": func(l *node.Limit) {
			l.Max, l.Window, l.Use = 0, node.Window{}, "100"
		},
		"use of no name": func(l *node.Limit) {
			l.Max, l.Window, l.Use = 0, node.Window{}, "5/s"
		},
	} {
		l := plainLimit(t)
		change(&l)
		if short, ok := l.Short(); ok {
			t.Errorf("%s: it is written as %q", name, short)
		}
	}
}

func TestLimitValues(t *testing.T) {
	var (
		algorithm node.Algorithm
		align     node.Align
		away      node.StoreAway
		mode      node.LimitMode
		headers   node.HeaderForm
	)
	for input, want := range map[string]string{
		"fixed": "", "sliding": "", "bucket": "", "concurrent": "",
		"slidng": `did you mean "sliding"?`, "": "is not known",
	} {
		nodetest.WantError(t, input, algorithm.UnmarshalText([]byte(input)), want)
	}
	for input, want := range map[string]string{"first": "", "clock": "", "clok": `did you mean "clock"?`} {
		nodetest.WantError(t, input, align.UnmarshalText([]byte(input)), want)
	}
	for input, want := range map[string]string{
		"closed": "", "open": "", "share": "",
		"shared": `did you mean "share"?`,
	} {
		nodetest.WantError(t, input, away.UnmarshalText([]byte(input)), want)
	}
	for input, want := range map[string]string{"refuse": "", "queue": "", "wait": "is not known"} {
		nodetest.WantError(t, input, mode.UnmarshalText([]byte(input)), want)
	}
	for input, want := range map[string]string{
		"draft-8": "", "draft-7": "", "draft-6": "", "legacy": "", "none": "",
		"draft-9": `did you mean "draft-8"?`,
	} {
		nodetest.WantError(t, input, headers.UnmarshalText([]byte(input)), want)
	}
}

func TestZone(t *testing.T) {
	for input, want := range map[string]string{
		"UTC": "", "Europe/Berlin": "", "America/New_York": "", "Etc/GMT+5": "",
		"": "is not a time zone", "Local": "is not a time zone",
		"Europe/Berln": "is not a time zone: write a name such as UTC, Europe/Berlin",
		"../UTC":       "is not a time zone", "/etc/localtime": "is not a time zone", "Europe": "is not a time zone",
		"+02:00": "is not a time zone",
	} {
		var z node.Zone
		err := z.UnmarshalText([]byte(input))
		nodetest.WantError(t, input, err, want)
		if err == nil && z.Location().String() != input {
			t.Errorf("%q has the location %s", input, z.Location())
		}
	}
	for _, z := range []node.Zone{"", "nowhere"} {
		if got := z.Location(); got != time.UTC {
			t.Errorf("%q has the location %s", z, got)
		}
	}
}

func TestLimitKey(t *testing.T) {
	for input, want := range map[string]node.LimitKey{
		"ip":               {Kind: node.KeyIP},
		"all":              {Kind: node.KeyAll},
		"header:X-Api-Key": {Kind: node.KeyHeader, Name: "X-Api-Key"},
		"cookie:session":   {Kind: node.KeyCookie, Name: "session"},
		"param:tenant_id":  {Kind: node.KeyParam, Name: "tenant_id"},
	} {
		var k, again node.LimitKey
		if err := k.UnmarshalText([]byte(input)); err != nil || k != want {
			t.Errorf("%q gives %+v, %v", input, k, err)
		}
		text, err := k.MarshalText()
		if err != nil || string(text) != input || again.UnmarshalText(text) != nil || again != k {
			t.Errorf("%q is written as %q, %v", input, text, err)
		}
	}
	for _, input := range []string{
		"", "IP", "ip:", "ip:x", "all:x", "header", "header:", "header:a b", "cookie:", "cookie:a=b", "param", "param:",
		"param:a-b", "param:{a}", "query:x",
	} {
		var k node.LimitKey
		nodetest.WantError(t, input, k.UnmarshalText([]byte(input)),
			"is not a key of limits: write ip, all, header:NAME, cookie:NAME or param:NAME")
	}
}

func TestLimitResolve(t *testing.T) {
	tenant := plainLimit(t)
	tenant.Key, tenant.Cost, tenant.SkipFailed, tenant.Exempt.Keys = limitKeys(t, "header:X-Tenant"), 3, true,
		[]string{"root"}
	named := map[string]node.Limit{"tenant": tenant}

	own := plainLimit(t)
	if got := own.Resolve(named); !reflect.DeepEqual(got, own) {
		t.Errorf("a limit of its own became %+v", got)
	}
	use := standardLimit()
	use.Use = "tenant"
	want := tenant
	want.Name = "tenant"
	if got := use.Resolve(named); !reflect.DeepEqual(got, want) {
		t.Errorf("a plain use gave %+v, want %+v", got, want)
	}
	use.Key, use.Cost, use.SkipSuccessful, use.Exempt = limitKeys(t, "param:tenant"), 5, true,
		node.Exempt{Keys: []string{"other"}}
	want.Key, want.Cost, want.SkipSuccessful, want.Exempt = use.Key, use.Cost, true, use.Exempt
	if got := use.Resolve(named); !reflect.DeepEqual(got, want) {
		t.Errorf("a use with its own keys gave %+v, want %+v", got, want)
	}
	if named["tenant"].Name != "" || named["tenant"].Cost != 3 {
		t.Errorf("the named limit became %+v", named["tenant"])
	}
}

// FuzzLimit checks that a limit is written so that it is parsed as the same one.
func FuzzLimit(f *testing.F) {
	for _, seed := range []string{
		"100/15m", "20/s", "10000/day", "0/month", " 5 / 90s ", "tenant", "100", "1/1h0m10s",
		"007/1.5s", "-", "1/+5m", "/", "1/\u00b5s",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l, again node.Limit
		if l.UnmarshalText([]byte(text)) != nil {
			return
		}
		short, ok := l.Short()
		if err := again.UnmarshalText([]byte(short)); !ok || err != nil || !reflect.DeepEqual(l, again) {
			t.Errorf("%q is %+v, written as %q, %t, and read back as %+v, %v", text, l, short, ok, again, err)
		}
	})
}

func standardLimit() node.Limit {
	var l node.Limit
	l.Defaults()
	return l
}

// plainLimit returns 100/15m.
func plainLimit(t *testing.T) node.Limit {
	t.Helper()
	var l node.Limit
	if err := l.UnmarshalText([]byte("100/15m")); err != nil {
		t.Fatal(err)
	}
	return l
}

func window(t *testing.T, text string) node.Window {
	t.Helper()
	var w node.Window
	if err := w.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return w
}

func limitKeys(t *testing.T, texts ...string) node.LimitKeys {
	t.Helper()
	keys := make(node.LimitKeys, len(texts))
	for i, text := range texts {
		if err := keys[i].UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}
