package site

import (
	"fmt"
	"strings"

	"millrace/node"
)

// maxHops is how many redirects in a row a client may be sent on. Browsers give up after 20.
const maxHops = 10

// Review returns what is wrong with the rules of a folder as a whole, which is for who publishes it: redirects that
// lead in a circle, and rewrites to files that aren't there. It warns of rules that a file makes useless. headers and
// redirects are the names of the files in the mistakes. The manifest must be one that Encode accepts.
func Review(m *Manifest, o Options) ([]Mistake, error) {
	x, err := NewIndex(node.Digest{}, m, o)
	if err != nil {
		return nil, err
	}
	found := mistakes{file: RedirectsFile}
	for i := range x.redirects.rules {
		r := &x.redirects.rules[i]
		at := line{number: r.Line}
		if r.rewrites() && r.fixed && r.file == nil {
			found.report(at, 0, mistakef("", "the folder has no file %s", r.To))
		}
		if from, ok := r.pattern.exact(); ok && !r.Force {
			if e := x.findFile(from).File; e != nil {
				found.warn(at, 0, mistakef("write ! behind the status to go before it",
					"the file %s is at this path, and goes before the rule", e.Path))
			}
		}
		if chain := x.circle(r); chain != "" {
			found.report(at, 0, mistakef("", "redirects without end: %s", chain))
		}
	}
	return found.sorted(), nil
}

// circle follows a rule from a path that it matches. It returns the paths if they have no end.
func (x *Index) circle(r *redirect) string {
	path := r.pattern.example("~a~")
	chain := []string{path}
	rule := fmt.Sprintf("%s:%d", RedirectsFile, r.Line)
	for range maxHops {
		a := x.Find(path)
		if a.Location == "" || a.Location[0] != '/' || (len(chain) == 1 && a.Rule != rule) {
			return ""
		}
		path, _, _ = strings.Cut(a.Location, "#")
		path, _, _ = strings.Cut(path, "?")
		chain = append(chain, path)
	}
	const shown = 4
	return strings.Join(chain[:shown], ", ") + ", ..."
}
