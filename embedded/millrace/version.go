package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version returns the version that `go build` has recorded.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "development"
	}
	return info.Main.Version
}

// about returns the version, the commit and its date, and the Go version.
func about(info *debug.BuildInfo) string {
	commit, date, changed := "unknown", "unknown", ""
	if info != nil {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.time":
				date = s.Value
			case "vcs.modified":
				if s.Value == "true" {
					changed = ", changed since"
				}
			}
		}
	}
	return fmt.Sprintf("millrace %s (commit %s, date %s%s; %s, %s/%s)", version(), commit, date, changed,
		runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func aboutThis() string {
	info, _ := debug.ReadBuildInfo() // nil if there is none
	return about(info)
}

type versionCmd struct{}

// Run prints version, commit and date.
func (versionCmd) Run(out console) error {
	_, err := fmt.Fprintln(out.stdout, aboutThis())
	return err
}

// versionFlag is the version command as a flag.
type versionFlag bool

// BeforeReset prints the version and ends the parsing.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	_, err := fmt.Fprintln(app.Stdout, aboutThis())
	app.Exit(exitOK)
	return err
}
