package deploy

import (
	"sync/atomic"
	"time"

	"millrace/node"
	"millrace/node/site"
)

// Deploy is a deploy that this node has whole. It never changes.
type Deploy struct {
	ID    node.Digest
	Index *site.Index // of State.Others maybe only of the hashed files

	light bool // Index has only the hashed files
}

// State is what a node serves of a site. It never changes; a change makes another.
type State struct {
	Live     *Deploy // nil if nothing was published yet
	Revision uint64  // of the bucket, in which Live was set
	Since    time.Time
	// Others are further deploys that are here: earlier ones, and those that may be live in a moment, newest first.
	// Their hashed files are served, so that a page always finds what it names.
	Others   []*Deploy
	Previews map[string]*Deploy // by name; those that haven't expired

	incarnation int64 // of the bucket in which Revision is
}

// Site is a site as this node knows it. It is safe for concurrent use.
type Site struct {
	Name string

	state atomic.Pointer[State]
}

// State returns what this node serves of the site now. It is never nil.
func (s *Site) State() *State { return s.state.Load() }

// turnBack marks what is served as being of a bucket that is no more.
func (s *Site) turnBack() {
	next := *s.state.Load()
	next.incarnation = restored
	s.state.Store(&next)
}

func newSite(name string) *Site {
	s := &Site{Name: name}
	s.state.Store(&State{})
	return s
}
