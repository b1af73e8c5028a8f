package site

import (
	"bytes"
	"maps"
	"slices"

	"millrace/node"
)

// Version is the version of manifests that this package writes and reads.
const Version = 1

// Limits of a manifest. A folder beyond them is refused when it is published.
const (
	MaxFiles    = 200_000
	MaxFile     = 5 << 30  // bytes of one file
	MaxManifest = 64 << 20 // bytes of an encoded manifest
	MaxPath     = 1024     // bytes of a path, before it is encoded for a URL
	MaxDepth    = 32       // segments of a path
	MaxRules    = 10_000   // header rules, and redirects
)

// The files of a folder that hold rules. They are never served, and no manifest lists them.
const (
	HeadersFile   = "_headers"
	RedirectsFile = "_redirects"
)

// Manifest is what a deploy consists of. It is a blob itself, and its digest is the id of the deploy. So the same files
// with the same rules are the same deploy. A Manifest isn't changed once it was made.
type Manifest struct {
	Version int `json:"version"`
	// Files has the files by path, as CheckName returns it: /a%20b/index.html.
	Files     map[string]File `json:"files"`
	Headers   []HeaderRule    `json:"headers,omitempty"`   // of the file _headers, in its order
	Redirects []Redirect      `json:"redirects,omitempty"` // of the file _redirects, in its order
}

// File is one file with its precompressed forms.
type File struct {
	node.Blob

	Codings map[Coding]node.Blob `json:"codings,omitempty"`
}

// Coding is a content coding (RFC 9110 §8.4.1) in which a file is kept beside its plain form.
type Coding string

// The codings.
const (
	Identity Coding = ""     // the plain form; never in File.Codings
	Brotli   Coding = "br"   // RFC 7932
	Zstd     Coding = "zstd" // RFC 8878
	Gzip     Coding = "gzip" // RFC 1952
)

const numCodings = 3 // that File.Codings may have

// HeaderRule sets and removes response fields for paths. Line is where it stands in _headers.
type HeaderRule struct {
	Line  int           `json:"line"`
	Path  string        `json:"path"` // may hold placeholders and one splat
	Set   []HeaderField `json:"set,omitempty"`
	Unset []string      `json:"unset,omitempty"`
}

// HeaderField is a field that a rule sets.
type HeaderField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Redirect is one rule of _redirects. Line is where it stands there. Status is 301, 302, 303, 307 or 308 for a
// redirect, 200 for a rewrite (To is a path of the site), 404 for a page with that status.
type Redirect struct {
	Line   int    `json:"line"`
	From   string `json:"from"`
	To     string `json:"to"`
	Status int    `json:"status"`
	Force  bool   `json:"force,omitempty"` // counts even if there is a file at From
}

// Blobs returns the blobs of all files and of their codings, each once, in the order of their digests.
func (m *Manifest) Blobs() []node.Blob {
	all := make(map[node.Digest]node.Blob, len(m.Files))
	for _, f := range m.Files {
		all[f.Digest] = f.Blob
		for _, b := range f.Codings {
			all[b.Digest] = b
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b node.Blob) int {
		return bytes.Compare(a.Digest[:], b.Digest[:])
	})
}

// Bytes returns the sizes of all files added up, without their codings.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}
