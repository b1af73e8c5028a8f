package site

import "millrace/node"

// Options are settings of the site that aren't part of its deploys.
type Options struct {
	SPA       node.SPA
	Slash     node.Slash
	Immutable []string
}

// Index is a manifest made ready to answer. It never changes; methods are safe for concurrent use.
type Index struct {
	id       node.Digest
	manifest *Manifest
}

// Answer says how a site answers to a path. Exactly one of these holds: File is set; Location is set; neither is, for a
// plain 404, or as "no answer" of Find.
type Answer struct {
	Status   int    // 200, 404, or that of a redirect; 0 is no answer
	File     *Entry // to be sent with Status
	Location string // of a redirect: a path or a URL. The query of the request is added if it has none.
	Rule     string // what decided, for people: "file", "clean URL", "_redirects:12", "404.html"
}

// Entry is a file of an index. Type is its Content-Type. Immutable reports that its name holds a hash, or that
// Options.Immutable lists it.
type Entry struct {
	File

	Path      string
	Type      string
	Immutable bool
}
