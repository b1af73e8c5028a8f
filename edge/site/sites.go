package site

import (
	"context"
	"io"
	"os"

	"millrace/kvcache/deploy"
	"millrace/node"
)

// Sites are the sites of a node. Methods are safe for concurrent use.
type Sites interface {
	// Site returns the site of that name, which needn't have been published. It is called when routes are set.
	Site(name string) Site
	// File returns the file with that content. It is called once for many requests, and does no I/O.
	File(b node.Blob) File
	// Preview returns the host of the site's previews, such as *.preview.example.com, or "" if it has none. It is
	// called when routes are set.
	Preview(name string) string
}

// Site is one site.
type Site interface {
	// State returns what is served now. It is never nil, and never changes. It is called for every request.
	State() *State
}

// State is what a node serves of a site.
type State = deploy.State

// Deploy is one deploy that a node has.
type Deploy = deploy.Deploy

// File is a file as a node has it. Methods are safe for concurrent use.
type File interface {
	// Bytes returns the content if it is in memory, else nil. It doesn't allocate.
	Bytes() []byte
	// Load reads the content into memory, if there is room, and returns it. It fetches it if it isn't on the disk.
	Load(ctx context.Context) ([]byte, error)
	// Here reports whether the whole file is on this node's disk.
	Here() bool
	// Acquire returns the open file, until Release. The caller doesn't use its position.
	Acquire() (*os.File, error)
	Release()
	// Stream returns length bytes from offset on, and fetches what isn't on the disk. Close ends a Read that waits.
	Stream(ctx context.Context, offset, length int64) (io.ReadCloser, error)
	// Bad reports that the file on the disk is short or wrong.
	Bad(why error)
}

// small is the size of the largest file that is served from memory, in bytes. Larger ones are cheaper to send from the
// file.
const small = 64 << 10

// Room is what the policies of all routes share. It is safe for concurrent use.
type Room struct{ sites Sites }

// New returns the room of a node. It starts nothing.
func New(sites Sites) *Room { return &Room{sites: sites} }

// Preview returns the host of a site's previews, or "".
func (r *Room) Preview(name string) string { return r.sites.Preview(name) }
