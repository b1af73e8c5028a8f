package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/node"
)

// TestLimitGood has limits without problems.
func TestLimitGood(t *testing.T) {
	for name, change := range map[string]func(l *node.Limit){
		"plain":       func(*node.Limit) {},
		"refuses all": func(l *node.Limit) { l.Max, l.Cost = 0, 7 },
		"bounds": func(l *node.Limit) {
			l.Max, l.Window, l.IPv6Prefix, l.Cost = 1<<31-1, window(t, "100ms"), 128, 1<<31-1
		},
		"longest": func(l *node.Limit) { l.Window, l.IPv6Prefix = window(t, "744h"), 1 },
		"month": func(l *node.Limit) {
			l.Window, l.Zone, l.StoreAway = window(t, "month"), "Europe/Berlin", node.StoreAwayShare
		},
		"clock": func(l *node.Limit) {
			l.Align, l.Zone, l.StoreAway = node.AlignClock, "Europe/Berlin", node.StoreAwayShare
		},
		"no zone":         func(l *node.Limit) { l.Zone = "" },
		"sliding":         func(l *node.Limit) { l.Algorithm, l.StoreAway = node.AlgorithmSliding, node.StoreAwayOpen },
		"bucket":          func(l *node.Limit) { l.Algorithm = node.AlgorithmBucket },
		"burst above max": func(l *node.Limit) { l.Algorithm, l.Burst, l.Cost = node.AlgorithmBucket, 1000, 1000 },
		"burst of a year": func(l *node.Limit) {
			l.Algorithm, l.Max, l.Window, l.Burst = node.AlgorithmBucket, 1, window(t, "24h"), 366
		},
		"many in a short one": func(l *node.Limit) {
			l.Algorithm, l.Max, l.Window, l.Burst = node.AlgorithmBucket, 1<<31-1, window(t, "100ms"), 1<<31-1
		},
		"concurrent": func(l *node.Limit) {
			l.Algorithm, l.Window, l.Shadow = node.AlgorithmConcurrent, node.Window{}, true
		},
		"concurrent queue": func(l *node.Limit) {
			l.Algorithm, l.Window, l.Mode = node.AlgorithmConcurrent, node.Window{}, node.LimitModeQueue
		},
		"queue": func(l *node.Limit) {
			l.Mode, l.MaxWait, l.MaxQueue = node.LimitModeQueue, node.Duration(time.Minute), 100_000
		},
		"keys": func(l *node.Limit) {
			l.Key = limitKeys(t, "ip", "header:X-A", "header:X-B", "cookie:a", "cookie:A", "param:id")
		},
		"all":  func(l *node.Limit) { l.Key = limitKeys(t, "all") },
		"name": func(l *node.Limit) { l.Name = "mine" },
	} {
		l := plainLimit(t)
		change(&l)
		c := valid(t)
		c.Routes[1].Limit, c.Routes[1].Timeout = node.Limits{l}, node.Duration(2*time.Minute)
		for _, p := range c.Validate() {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// limitChanges are changes to a limit, by the text of the expected problem.
type limitChanges map[string]func(l *node.Limit)

// wantLimitProblems makes each change to the key under which it is listed, and expects its problem.
func wantLimitProblems(t *testing.T, all map[string]limitChanges) {
	t.Helper()
	for key, changes := range all {
		for want, change := range changes {
			l := plainLimit(t)
			change(&l)
			c := valid(t)
			c.Routes[1].Limit = node.Limits{l}
			wantProblem(t, c, "routes.1.limit.0."+key, want)
		}
	}
}

// TestLimitChecks changes a limit so that it has one problem, at the key under which the change is listed.
func TestLimitChecks(t *testing.T) {
	wantLimitProblems(t, map[string]limitChanges{
		"max": {
			"-1 is out of range: use 0 to 2147483647": func(l *node.Limit) { l.Max = -1 },
			"2147483648 is out of range":              func(l *node.Limit) { l.Max = 1 << 31 },
			"0 is out of range: use 1 or more with algorithm bucket": func(l *node.Limit) {
				l.Max, l.Algorithm = 0, node.AlgorithmBucket
			},
			"0 is out of range: use 1 or more with algorithm concurrent": func(l *node.Limit) {
				l.Max, l.Algorithm, l.Window = 0, node.AlgorithmConcurrent, node.Window{}
			},
		},
		"window": {
			"limit has no window":                     func(l *node.Limit) { l.Window = node.Window{} },
			"99ms is out of range: use 100ms to 744h": func(l *node.Limit) { l.Window = window(t, "99ms") },
			"744h0m1s is out of range":                func(l *node.Limit) { l.Window = window(t, "744h1s") },
			"algorithm sliding has no windows of the": func(l *node.Limit) {
				l.Window, l.Algorithm = window(t, "day"), node.AlgorithmSliding
			},
			"algorithm bucket has no windows of the": func(l *node.Limit) {
				l.Window, l.Algorithm = window(t, "month"), node.AlgorithmBucket
			},
			"counts requests in flight: leave window out": func(l *node.Limit) {
				l.Algorithm = node.AlgorithmConcurrent
			},
			"concurrent counts requests in flight: leave wi": func(l *node.Limit) {
				l.Algorithm, l.Window = node.AlgorithmConcurrent, window(t, "day")
			},
		},
		"align": {
			"leave it out with sliding": func(l *node.Limit) {
				l.Align, l.Algorithm = node.AlignClock, node.AlgorithmSliding
			},
			"leave it out with bucket": func(l *node.Limit) {
				l.Align, l.Algorithm = node.AlignClock, node.AlgorithmBucket
			},
			"leave it out with concurrent": func(l *node.Limit) {
				l.Align, l.Algorithm, l.Window = node.AlignClock, node.AlgorithmConcurrent, node.Window{}
			},
		},
		"zone": {"set align: clock, use day or month": func(l *node.Limit) { l.Zone = "Europe/Berlin" }},
		"store_away": {
			"share needs fixed windows": func(l *node.Limit) { l.StoreAway = node.StoreAwayShare },
			"on the clock": func(l *node.Limit) {
				l.StoreAway, l.Algorithm = node.StoreAwayShare, node.AlgorithmSliding
			},
		},
		"burst": {
			"leave it out with fixed": func(l *node.Limit) { l.Burst = 1 },
			"-1 is out of range: use 1 to 2147483647": func(l *node.Limit) {
				l.Burst, l.Algorithm = -1, node.AlgorithmBucket
			},
			"takes longer than a year to fill: use at most 3": func(l *node.Limit) {
				l.Max, l.Window, l.Burst, l.Algorithm = 1, window(t, "24h"), 367, node.AlgorithmBucket
			},
		},
		"cost": {
			"0 is out of range: use 1 or more":         func(l *node.Limit) { l.Cost = 0 },
			"costs 101 never fits into 100: use 1 to ": func(l *node.Limit) { l.Cost = 101 },
			"costs 51 never fits into 50": func(l *node.Limit) {
				l.Cost, l.Burst, l.Algorithm = 51, 50, node.AlgorithmBucket
			},
		},
	})
}

// Invalid settings of keys, queues and skipped requests.
func TestLimitChecksOfKeysAndQueues(t *testing.T) {
	wantLimitProblems(t, map[string]limitChanges{
		"ipv6_prefix": {
			"0 is out of range: use 1 to 128, best 32 to 64": func(l *node.Limit) { l.IPv6Prefix = 0 },
			"129 is out of range":                            func(l *node.Limit) { l.IPv6Prefix = 129 },
		},
		"mode": {"a shadow limit holds no request back": func(l *node.Limit) {
			l.Mode, l.Shadow = node.LimitModeQueue, true
		}},
		"max_wait": {
			"max_wait is for mode queue":         func(l *node.Limit) { l.MaxWait = 1 },
			"1ns is out of range: use 1ms to 1m": func(l *node.Limit) { l.Mode, l.MaxWait = node.LimitModeQueue, 1 },
			"1m1s is out of range: use 1ms to 1m": func(l *node.Limit) {
				l.Mode, l.MaxWait = node.LimitModeQueue, node.Duration(61*time.Second)
			},
		},
		"max_queue": {
			"max_queue is for mode queue": func(l *node.Limit) { l.MaxQueue = 1 },
			"0 is out of range: use 1 to 100000": func(l *node.Limit) {
				l.Mode, l.MaxQueue = node.LimitModeQueue, 0
			},
			"100001 is out of range: use 1 to 1000": func(l *node.Limit) {
				l.Mode, l.MaxQueue = node.LimitModeQueue, 100_001
			},
		},
		"skip_successful": {
			"nothing counts: use one of them": func(l *node.Limit) { l.SkipFailed, l.SkipSuccessful = true, true },
			"leave skip_successful out": func(l *node.Limit) {
				l.Algorithm, l.Window, l.SkipSuccessful = node.AlgorithmConcurrent, node.Window{}, true
			},
		},
		"skip_failed": {"leave skip_failed out": func(l *node.Limit) {
			l.Algorithm, l.Window, l.SkipFailed = node.AlgorithmConcurrent, node.Window{}, true
		}},
		"exempt.keys.1": {"key is empty": func(l *node.Limit) { l.Exempt.Keys = []string{"a", ""} }},
		"key":           {"key is empty: use ip, all": func(l *node.Limit) { l.Key = nil }},
		"key.0": {"parameter {ids} is not in path /orders/{id} (did you mean \"id\"?)": func(l *node.Limit) {
			l.Key = limitKeys(t, "param:ids")
		}},
		"key.1": {
			"use it alone":             func(l *node.Limit) { l.Key = limitKeys(t, "ip", "all") },
			"ip is in the key already": func(l *node.Limit) { l.Key = limitKeys(t, "ip", "ip") },
			"header:x-a is in the key already: l": func(l *node.Limit) {
				l.Key = limitKeys(t, "header:X-A", "header:x-a")
			},
		},
		"name": {`"A" is not a name`: func(l *node.Limit) { l.Name = "A" }},
	})
}

func TestNamedLimitChecks(t *testing.T) {
	for place, tc := range map[string]struct {
		change func(c *node.Config)
		want   string
	}{
		"limits.A": {func(c *node.Config) { c.Limits["A"] = plainLimit(t) }, "is not a name"},
		"limits.tenant.window": {func(c *node.Config) {
			changeLimit(c, func(l *node.Limit) { l.Window = node.Window{} })
		}, "limit has no window"},
		"limits.tenant.name": {func(c *node.Config) {
			changeLimit(c, func(l *node.Limit) { l.Name = "other" })
		}, `has the name "tenant" already: leave name out`},
		"limits.inner.use": {func(c *node.Config) {
			c.Limits["inner"] = useOf("tenant")
		}, "write its max and window out"},
		"routes.0.limit.0.use": {func(c *node.Config) {
			c.Routes[0].Limit = node.Limits{useOf("tenat")}
		}, `limit "tenat" is not declared under limits (did you mean "tenant"?)`},
		"routes.0.limit.0.max_wait": {func(c *node.Config) {
			l := plainLimit(t)
			l.Mode, l.MaxWait = node.LimitModeQueue, node.Duration(30*time.Second)
			c.Routes[0].Limit = node.Limits{l}
		}, "may wait 30s for its turn, but the route's timeout is 30s"},
		"routes.0.limit.1.use": {func(c *node.Config) {
			c.Routes[0].Limit = namedLimits(t, []string{"=tenant", "=tenant"})
		}, "already, by the same key"},
		"routes.1.limit.0.use": {func(c *node.Config) {
			changeUse(c, func(*node.Limit) {})
			c.Routes[1].Path, c.Routes[1].To.Subject = pattern(t, "/o"), node.Subject{}
		}, "which is not in path /o"},
		"routes.1.limit.0.key.0": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Key = limitKeys(t, "param:x") })
		}, "parameter {x} is not in path"},
		"routes.1.limit.0.max": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Max = 5 })
		}, "set it in limits.tenant"},
		"routes.1.limit.0.window": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Window = window(t, "1s") })
		}, "set it in limits.tenant"},
		"routes.1.limit.0.name": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Name = "mine" })
		}, "leave name out"},
		"routes.1.limit.0.shadow": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Shadow = true })
		}, "leave it out here"},
		"routes.1.limit.0.headers": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Headers = node.HeaderNone })
		}, "leave it out here"},
		"routes.1.limit.0.cost": {func(c *node.Config) {
			changeUse(c, func(l *node.Limit) { l.Cost = 101 })
		}, `never fits into limit "tenant": use 1 to 100`},
		"routes.1.limit.0.skip_failed": {func(c *node.Config) { skipBoth(c) }, "nothing counts: leave it out"},
		"routes.1.limit.0.skip_successful": {
			func(c *node.Config) {
				changeLimit(c, func(l *node.Limit) { l.Algorithm, l.Window = node.AlgorithmConcurrent, node.Window{} })
				changeUse(c, func(l *node.Limit) { l.SkipSuccessful = true })
			}, "whatever becomes of them: leave skip_successful out",
		},
		"routes.0.limit": {func(c *node.Config) {
			for i := range 9 {
				c.Routes[0].Limit = append(c.Routes[0].Limit, plainLimit(t))
				c.Routes[0].Limit[i].Max += i
			}
		}, "9 limits are too many: use at most 8"},
	} {
		c := withTenant(t)
		tc.change(c)
		wantProblem(t, c, place, tc.want)
	}
}

func TestUseGood(t *testing.T) {
	c := withTenant(t)
	changeUse(c, func(l *node.Limit) {
		l.Key, l.Cost, l.SkipFailed, l.Exempt.Keys = limitKeys(t, "all"), 100, true, []string{"root"}
	})
	c.Routes[0].Limit = node.Limits{useOf("tenant"), useOf("tenant")}
	c.Routes[0].Limit[0].Key, c.Routes[0].Limit[1].Key = limitKeys(t, "cookie:a"), limitKeys(t, "header:A")
	for _, p := range c.Validate() {
		t.Errorf("%v", p)
	}
}

func TestLimitNames(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second []string // names of the limits of two routes, "" for none, =NAME for a use
		place, want   string
	}{
		"all different": {[]string{"", "a", ""}, []string{"", "b", "=tenant"}, "", ""},
		"used twice":    {[]string{"=tenant"}, []string{"=tenant"}, "", ""},
		"within a route": {
			[]string{"a", "a"},
			nil, "routes.0.limit.1.name",
			`routes[0].limit[0] has the name "a" too: for one limit put it under limits`,
		},
		"of two routes": {
			[]string{"a"},
			[]string{"", "a"},
			"routes.1.limit.1.name",
			`routes[0].limit has the name "a" too: for one limit put it under limits`,
		},
		"of a named one":     {nil, []string{"tenant"}, "routes.1.limit.0.name", "write use: tenant if that is meant"},
		"of a derived one":   {[]string{"", ""}, []string{"api-all-2"}, "", ""},
		"derived of a given": {[]string{"orders-id"}, []string{""}, "", ""},
	} {
		c := withTenant(t)
		c.Routes[0].Limit, c.Routes[1].Limit = namedLimits(t, tc.first), namedLimits(t, tc.second)
		if tc.want != "" {
			wantProblem(t, c, tc.place, tc.want)
			continue
		}
		for _, p := range c.Validate() {
			t.Errorf("%s: %v", name, p)
		}
	}
	c := withTenant(t)
	c.Routes[0].Name, c.Routes[1].Name = "same", "same"
	c.Routes[0].Limit, c.Routes[1].Limit = node.Limits{plainLimit(t)}, node.Limits{plainLimit(t)}
	wantProblem(t, c, "routes.1.name", `routes[0] has the name "same" too`)
}

func TestLimitID(t *testing.T) {
	long := strings.Repeat("a", node.MaxName)
	limits := namedLimits(t, []string{"", "", "mine", "=tenant", ""})
	for _, tc := range []struct {
		route node.Route
		want  []string
	}{
		{node.Route{Name: "api", Limit: limits}, []string{"api", "api-2", "mine", "tenant", "api-5"}},
		{node.Route{Path: pattern(t, "/orders/{id}"), Limit: limits[:2]}, []string{"orders-id", "orders-id-2"}},
		{node.Route{Name: long, Limit: limits[:2]}, []string{long, long[:node.MaxName-2] + "-2"}},
	} {
		var got []string
		for i := range tc.route.Limit {
			got = append(got, tc.route.LimitID(i))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("got %q, want %q", got, tc.want)
		}
		if i := slices.IndexFunc(got, func(id string) bool { return !node.ValidName(id) }); i >= 0 {
			t.Errorf("%q is not a name", got[i])
		}
	}
}

// wantProblem fails unless the configuration has one problem, with that path and text.
func wantProblem(t *testing.T, c *node.Config, place, want string) {
	t.Helper()
	problems := c.Validate()
	if len(problems) != 1 || strings.Join(problems[0].Path, ".") != place ||
		!strings.Contains(problems[0].Message, want) {
		t.Errorf("got %v, want one at %s with %q", problems, place, want)
	}
}

// withTenant returns a configuration with a limit tenant, which its second route uses and whose key is a parameter of
// that route.
func withTenant(t *testing.T) *node.Config {
	t.Helper()
	c := valid(t)
	l := plainLimit(t)
	l.Key = limitKeys(t, "param:id")
	c.Limits = map[string]node.Limit{"tenant": l}
	c.Routes[0].Path = pattern(t, "/api/*")
	c.Routes[1].Limit = node.Limits{useOf("tenant")}
	for _, problem := range c.Validate() {
		t.Errorf("before the change: %v", problem)
	}
	return c
}

func useOf(name string) node.Limit {
	l := standardLimit()
	l.Use = name
	return l
}

// changeLimit alters the limit tenant.
func changeLimit(c *node.Config, f func(l *node.Limit)) {
	l := c.Limits["tenant"]
	f(&l)
	c.Limits["tenant"] = l
}

// changeUse alters the second route's use of tenant.
func changeUse(c *node.Config, f func(l *node.Limit)) { f(&c.Routes[1].Limit[0]) }

func skipBoth(c *node.Config) {
	changeLimit(c, func(l *node.Limit) { l.SkipSuccessful = true })
	changeUse(c, func(l *node.Limit) { l.SkipFailed = true })
}

// namedLimits makes a limit for each name; for =NAME a use, by the key all.
func namedLimits(t *testing.T, names []string) node.Limits {
	t.Helper()
	var limits node.Limits
	for _, name := range names {
		l := plainLimit(t)
		l.Name = name
		if used, isUse := strings.CutPrefix(name, "="); isUse {
			l = useOf(used)
			l.Key = limitKeys(t, "all")
		}
		limits = append(limits, l)
	}
	return limits
}
