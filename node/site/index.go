package site

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"millrace/node"
)

// Options are settings of the site that aren't part of its deploys. The zero value is a plain site with SlashAuto.
type Options struct {
	SPA       node.SPA
	Slash     node.Slash
	Immutable []string // exact paths, and paths that end in /*
}

// Index is a manifest made ready to answer. It never changes; methods are safe for concurrent use. Paths are those of
// requests as node.CanonicalPath returns them, without a query.
type Index struct {
	id       node.Digest
	manifest *Manifest
	slash    node.Slash
	spa      *Entry
	entries  []Entry
	files    map[string]*Entry
	stems    map[string]stem
	notFound pageTree

	redirects redirects
	headers   *headerRules // nil if there are no rules
}

// Answer says how a site answers to a path. Exactly one of these holds: File is set; Location is set; neither is, for a
// plain 404, or as "no answer" of Find.
type Answer struct {
	Status   int    // 200, 404, or that of a redirect; 0 is no answer
	File     *Entry // to be sent with Status
	Location string // of a redirect: a path or a URL. AddQuery adds the query of the request.
	Rule     string // what decided, for people: "file", "clean URL", "_redirects:12", "404.html"
}

// Entry is a file of an index.
type Entry struct {
	File

	Path      string
	URL       string // path of the file's own URL, where it is served: /docs/ for /docs/index.html
	Type      string // its Content-Type
	Number    int    // from 0 to Index.Len()-1, in the order of paths
	Immutable bool   // its name holds a hash, or Options.Immutable lists it; never HTML
	Hashed    bool   // its name may hold a hash, or Options.Immutable lists it: Asset finds it; never HTML
}

// HTML reports whether the file is a page: HTML or XHTML.
func (e *Entry) HTML() bool {
	return strings.HasPrefix(e.Type, "text/html") || strings.HasPrefix(e.Type, "application/xhtml")
}

// NewIndex returns the index of a manifest, which must not change any more. id is the digest of its encoding. The
// error says which rule can't be used; a manifest that Decode returned has none.
func NewIndex(id node.Digest, m *Manifest, o Options) (*Index, error) {
	x := &Index{
		id: id, manifest: m, slash: o.Slash, entries: make([]Entry, 0, len(m.Files)),
		files: make(map[string]*Entry, len(m.Files)), stems: map[string]stem{},
	}
	if x.slash == "" {
		x.slash = node.SlashAuto
	}
	for _, path := range slices.Sorted(maps.Keys(m.Files)) {
		x.entries = append(x.entries, newEntry(path, m.Files[path], len(x.entries), o.Immutable))
	}
	for i := range x.entries {
		e := &x.entries[i]
		x.files[e.Path] = e
		x.notFound.add(e)
	}
	x.addURLs()
	x.spa = x.files[string(o.SPA)]
	rules, err := readRedirects(m.Redirects)
	if err != nil {
		return nil, err
	}
	x.addRedirects(rules)
	if x.headers, err = newHeaderRules(m.Headers, len(x.entries)); err != nil {
		return nil, err
	}
	return x, nil
}

func newEntry(path string, f File, number int, immutable pathList) Entry {
	e := Entry{File: f, Path: path, URL: path, Type: TypeOf(path), Number: number}
	if !e.HTML() {
		sure, maybe := hashedName(path)
		listed := immutable.match(path)
		e.Immutable, e.Hashed = sure || listed, maybe || listed
	}
	return e
}

// ID returns the id of the deploy: the digest of its manifest.
func (x *Index) ID() node.Digest { return x.id }

// Manifest returns the manifest, which must not be changed.
func (x *Index) Manifest() *Manifest { return x.manifest }

// Len returns the number of files.
func (x *Index) Len() int { return len(x.entries) }

// Entries returns all files in the order of their paths. The slice must not be changed.
func (x *Index) Entries() []Entry { return x.entries }

// Entry returns the file of a path, nil if there is none.
func (x *Index) Entry(path string) *Entry { return x.files[path] }

// Blobs returns the blobs of all files and of their codings, each once.
func (x *Index) Blobs() []node.Blob { return x.manifest.Blobs() }

// Find returns the answer of the site's files and rules to a path, in this order: a redirect that is forced with !, the
// file of that name, the page whose URL it is or a redirect to that URL, another redirect or rewrite, in the order of
// the file _redirects. Status is 0 if there is none.
func (x *Index) Find(path string) Answer {
	path = lookupPath(path)
	if a := x.forcedRedirect(path); a.Status != 0 {
		return a
	}
	if a := x.findFile(path); a.Status != 0 {
		return a
	}
	return x.redirect(path, false)
}

// Asset returns the file of that name if its name holds a hash, and nil otherwise. Such files of earlier and of later
// deploys are served too, since pages of those deploys ask for them.
func (x *Index) Asset(path string) *Entry {
	if e := x.files[lookupPath(path)]; e != nil && e.Hashed {
		return e
	}
	return nil
}

// Fallback returns the answer to a path for which Find has none: that of a rule with status 404; else the page of a
// single-page application if the request navigates, which is to say that a browser wants to show a page; else the
// nearest 404.html, else a plain 404.
func (x *Index) Fallback(path string, navigates bool) Answer {
	path = lookupPath(path)
	if a := x.redirect(path, true); a.Status != 0 {
		return a
	}
	if navigates && x.spa != nil && !namesFile(path) {
		return Answer{Status: http.StatusOK, File: x.spa, Rule: "spa"}
	}
	if e := x.notFound.nearest(path); e != nil {
		return Answer{Status: http.StatusNotFound, File: e, Rule: e.Path[1:]}
	}
	return Answer{Status: http.StatusNotFound, Rule: "nothing matches"}
}

// namesFile reports whether a path asks for a file other than a page: it has an extension that a file may have. A user
// named john.doe isn't one, and a missing script isn't answered with a page.
func namesFile(path string) bool {
	ext := extension(path)
	_, known := types[ext]
	return known && ext != "html"
}
