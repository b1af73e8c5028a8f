package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/admin"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/site"
)

// Request says how a folder is published.
type Request struct {
	Site    string
	Preview string        // name of a preview; empty publishes for everybody
	Until   time.Duration // how long the preview stays; zero is the node's default
	Message string
	By      string
	// IfLive is the deploy that must be live until then, zero for none; nil is the one that is when the publish begins.
	IfLive  *node.Digest
	WaitAll bool // fail if a node doesn't get ready in time, instead of leaving it behind
	Best    bool // see EncodeOptions.Best
	Plain   bool // without compressed forms
	DryRun  bool // only say what would change
	// Progress is told what happens, from one goroutine at a time; may be nil.
	Progress func(Progress)
}

// Phase is what a publish does at the moment.
type Phase string

// The phases, in their order.
const (
	Encoding Phase = "compress" // Done and All are bytes
	Sending  Phase = "send"     // likewise
	Waiting  Phase = "wait"     // for the nodes; Node has what one says
	Retrying Phase = "retry"    // Err says why
)

// Progress is one thing that happened.
type Progress struct {
	Phase     Phase
	Done, All int64
	Node      *NodeState
	Err       error
}

// Result is what a publish did.
type Result struct {
	Published

	ID    node.Digest `json:"id"`
	Diff  Diff        `json:"diff"` // against what was live
	Files int         `json:"files"`
	Bytes int64       `json:"bytes"`
	Sent  int64       `json:"sent"`  // bytes that were sent, some of them twice if a connection broke
	Blobs int         `json:"blobs"` // how many were sent
	Nodes []NodeState `json:"nodes"` // the last state of each, in the order in which they were heard of
	// Already reports that the same deploy was live before; nothing was changed then.
	Already bool `json:"already,omitempty"`
	DryRun  bool `json:"dry_run,omitempty"`
}

// Publish makes what is in the folder the live deploy of a site, or a preview: whole, or not at all. Files that the
// mesh has aren't sent. What a broken connection interrupts goes on where it was. The error is a *FolderError, or one
// of those at ErrUnreachable.
func (c *Client) Publish(ctx context.Context, f *Folder, r Request) (*Result, error) {
	if err := f.Err(); err != nil {
		return nil, err
	}
	p := &publishing{client: c, folder: f, request: r}
	var err error
	if p.live, p.manifest, err = c.live(ctx, r.Site); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx, p.manifest); err != nil {
		return nil, err
	}
	expected, err := p.expected()
	if err != nil {
		return nil, err
	}
	if r.DryRun {
		return p.result(live(p.live)), nil
	}
	var done *Published
	for n := 1; done == nil; n++ {
		if err := p.bring(ctx); err != nil {
			return nil, err
		}
		if r.Preview == "" && p.live == p.id {
			result := p.result(live(p.live))
			result.Already = true
			return result, nil
		}
		done, err = c.flip(ctx, r, p.id, expected, p.heard)
		no, ok := errors.AsType[*refusal](err)
		if err != nil && (!ok || no.Code != admin.CodeMissing || n == attempts) {
			return nil, err
		}
	}
	return p.result(done), nil
}

// publishing is one publish.
type publishing struct {
	client  *Client
	folder  *Folder
	request Request

	live     node.Digest    // the deploy that was live when it began
	manifest *site.Manifest // of it; nil if there is none
	now      *site.Manifest
	encoded  []byte // of now
	id       node.Digest
	sent     atomic.Int64
	blobs    int
	nodes    []NodeState

	mu sync.Mutex // guards request.Progress
}

// heard notes how far a node is.
func (p *publishing) heard(n NodeState) {
	i := slices.IndexFunc(p.nodes, func(known NodeState) bool { return known.Node == n.Node })
	if i < 0 {
		p.nodes = append(p.nodes, n)
	} else {
		p.nodes[i] = n
	}
	p.tell(Progress{Phase: Waiting, Node: &n})
}

func (p *publishing) tell(progress Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.request.Progress != nil {
		p.request.Progress(progress)
	}
}

// expected returns the id that must be live when the deploy goes live.
func (p *publishing) expected() (node.Digest, error) {
	wanted := p.request.IfLive
	if wanted != nil && *wanted != p.live {
		return p.live, &RaceError{Live: p.live, Wanted: *wanted}
	}
	return p.live, nil
}

// prepare makes codings and the manifest. reuse is the manifest whose codings are taken over; nil makes all.
func (p *publishing) prepare(ctx context.Context, reuse *site.Manifest) (err error) {
	if p.request.Plain {
		return p.encode()
	}
	err = p.folder.Encode(ctx, EncodeOptions{
		Live: reuse, Best: p.request.Best,
		Progress: func(done, all int64) { p.tell(Progress{Phase: Encoding, Done: done, All: all}) },
	})
	if err != nil {
		return err
	}
	return p.encode()
}

// encode makes the manifest.
func (p *publishing) encode() (err error) {
	p.now = p.folder.Manifest()
	if p.encoded, err = site.Encode(p.now); err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	p.id = node.DigestOf(p.encoded)
	return nil
}

// bring sends what the mesh lacks, until it lacks nothing. It gives up when nothing comes forward any more.
func (p *publishing) bring(ctx context.Context) error {
	least, stuck := -1, 0
	var last error
	for {
		asked, err := p.client.post(ctx, p.request.Site, p.encoded)
		if err != nil {
			return err
		}
		if len(asked.Missing) == 0 {
			return nil
		}
		if p.lacks(asked.Missing) {
			if err := p.prepare(ctx, nil); err != nil {
				return err
			}
			continue
		}
		if least >= 0 && len(asked.Missing) >= least {
			if stuck++; stuck == attempts {
				return errors.Join(last, fmt.Errorf("the node doesn't keep %d of the files", len(asked.Missing)))
			}
		} else {
			least, stuck = len(asked.Missing), 0
		}
		if last != nil || stuck > 0 {
			p.tell(Progress{Phase: Retrying, Err: last})
			if err := p.client.wait(ctx, stuck+1); err != nil {
				return err
			}
		}
		if last = p.send(ctx, asked.Missing); last != nil && (!goesOn(last) || ctx.Err() != nil) {
			return last
		}
	}
}

// lacks reports whether there are blobs that the folder hasn't the bytes of: codings that were taken over from the
// live deploy, and that the mesh has lost.
func (p *publishing) lacks(missing []node.Digest) bool {
	for _, d := range missing {
		if !p.folder.has(d) {
			return true
		}
	}
	return false
}

// send sends blobs.
func (p *publishing) send(ctx context.Context, missing []node.Digest) error {
	var all int64
	for _, d := range missing {
		all += p.folder.sources[d].blob.Size + int64(frameHeader)
	}
	var done atomic.Int64
	err := p.client.sendBlobs(ctx, p.folder, p.request.Site, missing, func(n int64) {
		p.sent.Add(n)
		p.tell(Progress{Phase: Sending, Done: done.Add(n), All: all})
	})
	if err == nil {
		p.blobs += len(missing)
	}
	return err
}

// live is what a publish did that changed nothing.
func live(id node.Digest) *Published {
	return &Published{Published: deploy.Published{Live: id, Was: id}}
}

func (p *publishing) result(done *Published) *Result {
	return &Result{
		Published: *done, ID: p.id, Diff: Compare(p.manifest, p.now), Files: len(p.folder.Files),
		Bytes: p.folder.Bytes(), Sent: p.sent.Load(), Blobs: p.blobs, Nodes: p.nodes, DryRun: p.request.DryRun,
	}
}
