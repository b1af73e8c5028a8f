package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

// The version has the commit and its date, as recorded by the build, and whether files were changed since.
func TestAbout(t *testing.T) {
	for want, info := range map[string]*debug.BuildInfo{
		"(commit unknown, date unknown; go1.": nil,
		"(commit 0c9cf39, date 2026-11-28T20:00:00Z; go1.": {Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0c9cf39"},
			{Key: "vcs.time", Value: "2026-11-28T20:00:00Z"},
			{Key: "vcs.modified", Value: "false"},
		}},
		"(commit 0c9cf39, date unknown, changed since; go1.": {Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0c9cf39"}, {Key: "vcs.modified", Value: "true"},
		}},
	} {
		if got := about(info); !strings.HasPrefix(got, "millrace "+version()+" "+want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
