package node

import (
	"fmt"
	"strings"
	"time"
)

// Sites configures the sites of this node: folders that every node of the mesh serves (millrace publish).
type Sites struct {
	Disk   Size            `yaml:"disk" doc:"Disk for the files of all sites on this node, and as much again on nodes that store the mesh's data."`
	Fill   Fill            `yaml:"fill" doc:"Which files of a deploy this node has before it serves it: all, html (files below 1 MiB; the rest follows), or demand (each when it is asked for first)."`
	Memory Size            `yaml:"memory" doc:"Memory for small files of sites that are asked for often."`
	Named  map[string]Site `yaml:",inline" doc:"The sites, by name."`
}

// Site configures one site. A site needs no entry in the configuration: a route with to: site:NAME has the defaults.
type Site struct {
	SPA       SPA      `yaml:"spa" doc:"For single-page applications: true serves /index.html, or the file that is named, to navigations that match nothing."`
	Slash     Slash    `yaml:"slash" doc:"Slashes at the end of URLs: auto (x.html is /x, x/index.html is /x/), always, never, or keep (files as they are named)."`
	Keep      SiteKeep `yaml:"keep" doc:"How long earlier deploys stay, for rollbacks and for pages that are open in browsers."`
	Immutable []string `yaml:"immutable" doc:"Paths whose content never changes under its name, such as /assets/*, beside names that hold a hash: browsers keep those for a year."`
	Preview   string   `yaml:"preview" doc:"Host of previews with a * for their name, such as *.preview.example.com."`
	Token     string   `yaml:"token" doc:"Bearer token that may publish and roll back this site and do nothing else."`
}

// Defaults sets the default values.
func (s *Site) Defaults() {
	s.Slash = SlashAuto
	s.Keep = SiteKeep{Deploys: 10, Assets: Duration(7 * 24 * time.Hour)}
}

// SiteKeep says which earlier deploys of a site are kept. One is kept if either says so.
type SiteKeep struct {
	Deploys int      `yaml:"deploys" doc:"How many deploys are kept at least, the live one included."`
	Assets  Duration `yaml:"assets" doc:"How long the hashed files of earlier deploys are served."`
}

// SPA is the page of a single-page application as a path such as /index.html; empty if the site is none.
type SPA string

// Slash says which URLs the HTML files of a site have.
type Slash string

// The values of Slash.
const (
	SlashAuto   Slash = "auto"   // x.html is /x, x/index.html is /x/
	SlashAlways Slash = "always" // both have a slash at the end
	SlashNever  Slash = "never"  // neither has one
	SlashKeep   Slash = "keep"   // files have the URLs that their names say; x/index.html also answers /x/
)

// UnmarshalText accepts the four values of Slash.
func (s *Slash) UnmarshalText(text []byte) error {
	return oneOf(s, text, SlashAuto, SlashAlways, SlashNever, SlashKeep)
}

// The default sizes of Sites.
const (
	standardSiteDisk   = 10 * GiB
	standardSiteMemory = 64 * MiB
)

// TakesBool allows true and false as short forms.
func (s *SPA) TakesBool() {}

// UnmarshalText reads true for /index.html, false for none, or the path of an HTML file.
func (s *SPA) UnmarshalText(text []byte) error {
	switch path := string(text); strings.ToLower(path) {
	case "true":
		*s = "/index.html"
	case "false":
		*s = ""
	case "yes", "on", "y":
		return fmt.Errorf("%q is not how this is switched on: write true", path)
	case "no", "off", "n", "none", "never":
		return fmt.Errorf("%q is not how this is switched off: write false", path)
	default:
		if err := checkSitePath(path); err != nil {
			return err
		}
		*s = SPA(path)
	}
	return nil
}

// MarshalText writes the path as UnmarshalText reads it.
func (s SPA) MarshalText() ([]byte, error) {
	if s == "" {
		return []byte("false"), nil
	}
	return []byte(s), nil
}

// Fill says which files of a deploy a node brings before it serves the deploy.
type Fill string

// The values of Fill.
const (
	FillAll    Fill = "all"    // all of them
	FillHTML   Fill = "html"   // those below 1 MiB, as pages, styles and scripts are; the rest afterwards
	FillDemand Fill = "demand" // none: each is brought when it is asked for first
)

// UnmarshalText accepts the three values of Fill.
func (f *Fill) UnmarshalText(text []byte) error { return oneOf(f, text, FillAll, FillHTML, FillDemand) }
