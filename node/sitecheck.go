package node

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// checkSitePath checks the path of a file of a site as a URL has it.
func checkSitePath(path string) error {
	bad := strings.ContainsFunc(path, func(c rune) bool {
		return c < ' ' || c == 0x7f || strings.ContainsRune(`\?#`, c)
	})
	segments := strings.Split(path, "/")
	for _, s := range segments[1:] {
		bad = bad || s == "" || s == "." || s == ".."
	}
	if bad || segments[0] != "" || len(segments) < 2 {
		return fmt.Errorf("%q is not the path of a file in a site: write one such as /index.html", path)
	}
	return nil
}

// sites checks the settings of sites.
func (v *validator) sites() {
	s := &v.config.Sites
	v.check(s.Disk >= 16*MiB, []string{"sites", "disk"}, "%s is out of range: use 16MiB or more", s.Disk)
	v.check(s.Memory >= MiB, []string{"sites", "memory"}, "%s is out of range: use 1MiB or more", s.Memory)
	previews := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Named)) {
		site := s.Named[name]
		v.site(name, &site)
		if other := previews[site.Preview]; other != "" && site.Preview != "" {
			v.report([]string{"sites", name, "preview"}, "site %q has its previews there too: give each site another "+
				"host", other)
		}
		previews[site.Preview] = name
	}
}

func (v *validator) site(name string, s *Site) {
	at := func(keys ...string) []string { return append([]string{"sites", name}, keys...) }
	v.name(at(), name)
	v.check(s.Keep.Deploys >= 1 && s.Keep.Deploys <= maxKeptDeploys, at("keep", "deploys"),
		"%d is out of range: use 1 to %d", s.Keep.Deploys, maxKeptDeploys)
	v.check(s.Keep.Assets >= 0 && s.Keep.Assets <= maxKeptAssets, at("keep", "assets"),
		"%s is out of range: use 0s to 8760h", s.Keep.Assets.Std())
	for i, path := range s.Immutable {
		err := checkSitePath(strings.TrimSuffix(path, "/*"))
		v.check((err == nil || path == "/*") && !strings.Contains(strings.TrimSuffix(path, "/*"), "*"),
			at("immutable", strconv.Itoa(i)),
			"%q is not a path of a site: begin it with /, and end it with /* for all below", path)
	}
	v.preview(at("preview"), s.Preview)
	v.token(at("token"), s.Token)
	v.check(s.Token == "" || s.Token != v.config.Admin.Token, at("token"),
		"the token is that of admin, so whoever publishes the site could do everything: write another")
}

const (
	maxKeptDeploys = 1000
	maxKeptAssets  = Duration(365 * day)
)

// preview checks the host of a site's previews.
func (v *validator) preview(path []string, preview string) {
	host, ok := strings.CutPrefix(preview, "*.")
	var h Host
	ok = ok && h.UnmarshalText([]byte(host)) == nil && string(h) == host && !strings.HasPrefix(host, ".")
	v.check(ok || preview == "", path,
		"%q is not a host with one * in front: write one in lower case, such as *.preview.example.com", preview)
}
