package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/blob"
	"millrace/node"
	"millrace/node/site"
)

// Errors that a caller may branch on, beside LostRaceError.
var (
	ErrUnknownDeploy = errors.New("there is no such deploy")
	ErrUnknownSite   = errors.New("nothing was published to the site")
	ErrUnknownBlob   = errors.New("no manifest that was sent names the blob")
	ErrNotReady      = errors.New("not every node has the deploy")
	ErrManifest      = errors.New("the manifest is invalid")
	ErrLimit         = errors.New("a limit of sites is reached")
)

// readyWait is how long a change waits until the nodes have a deploy, and servedWait until they serve it.
const (
	readyWait  = 30 * time.Second
	servedWait = 5 * time.Second
)

// Limits of what can be published.
const (
	maxSites    = 1000
	maxPreviews = 100 // of a site
	maxDeploys  = 100 // of a site that are kept for their age; see SiteKeep
	maxPreview  = 366 * 24 * time.Hour
)

// Begun is the answer to a manifest.
type Begun struct {
	ID      node.Digest   `json:"id"`
	Missing []node.Digest `json:"missing"` // blobs that must be sent
	Files   int           `json:"files"`
	Bytes   int64         `json:"bytes"`
	Live    node.Digest   `json:"live"` // what is live now; zero for nothing
}

// Begin takes the manifest of a deploy, and says which blobs of it the mesh doesn't have. Nothing changes by it. The
// error is ErrManifest if the manifest is invalid, ErrLimit, and blob.ErrFull if the mesh has no room for those blobs.
func (s *Store) Begin(ctx context.Context, name string, data []byte) (*Begun, error) {
	m, err := site.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	s.Follow()
	if err := s.checkLimits(ctx, name, ""); err != nil {
		return nil, err
	}
	blobs := m.Blobs()
	b := &begun{
		key: pendingKey{name, node.DigestOf(data)}, data: data, files: len(m.Files), size: m.Bytes(),
		blobs: make(map[node.Digest]node.Blob, len(blobs)), at: s.cfg.Now(),
	}
	for _, blob := range blobs {
		b.blobs[blob.Digest] = blob
	}
	missing, err := s.cfg.Blobs.Missing(ctx, blobs)
	if err != nil {
		return nil, fmt.Errorf("look for the files of the deploy: %w", err)
	}
	if err := s.checkRoom(ctx, missing, len(data)); err != nil {
		return nil, err
	}
	live, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	s.pending.add(b)
	out := &Begun{
		ID: b.key.id, Missing: make([]node.Digest, 0, len(missing)), Files: b.files, Bytes: b.size,
		Live: live.change.ID,
	}
	for _, blob := range missing {
		out.Missing = append(out.Missing, blob.Digest)
	}
	return out, nil
}

// checkLimits returns ErrLimit if a deploy, or a preview unless that is empty, is one too many, as far as this node
// knows.
func (s *Store) checkLimits(ctx context.Context, name, preview string) error {
	if !node.ValidName(name) || (preview != "" && !node.ValidName(preview)) {
		return fmt.Errorf("%w: a name has at most %d lower-case letters, digits, - and _", ErrLimit, node.MaxName)
	}
	var why string
	err := s.do(ctx, func(f *follower) {
		t := f.tables[name]
		switch {
		case t == nil && f.sites() >= maxSites:
			why = fmt.Sprintf("there are %d sites: delete one", maxSites)
		case t == nil:
		case len(t.deploys) > maxDeploys+max(maxDeploys, f.settings[name].Keep.Deploys):
			why = "too many deploys of the site are kept: wait until the oldest have gone"
		case preview != "" && t.previews[preview].Version == 0 && len(t.previews) >= maxPreviews:
			why = fmt.Sprintf("the site has %d previews: wait until one has expired", maxPreviews)
		}
	})
	if err == nil && why != "" {
		err = fmt.Errorf("%w: %s", ErrLimit, why)
	}
	return err
}

// sites returns how many sites there are.
func (f *follower) sites() (n int) {
	for _, t := range f.tables {
		if len(t.deploys) > 0 || t.site.State().Live != nil {
			n++
		}
	}
	return n
}

// chunkOverhead is about what JetStream needs for a chunk beside its bytes.
const chunkOverhead = 150

// checkRoom returns blob.ErrFull if the mesh has no room for blobs and a manifest. That it isn't known is no error.
func (s *Store) checkRoom(ctx context.Context, blobs []node.Blob, manifest int) error {
	need := int64(manifest) + chunkOverhead
	for i := range blobs {
		need += blobs[i].Size + int64(blobs[i].Parts())*chunkOverhead
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	stream, err := s.js.Stream(ctx, kvcache.BucketName(s.cfg.Prefix, "blobs"))
	if err != nil {
		return nil // whoever stores the blobs finds out
	}
	info := stream.CachedInfo()
	room := info.Config.MaxBytes - int64(min(info.State.Bytes, 1<<62))
	if info.Config.MaxBytes <= 0 || need <= room {
		return nil
	}
	return fmt.Errorf("%w: the deploy needs %d MiB more, and of the %d MiB for all sites %d are free: raise "+
		"sites.disk, keep fewer deploys, or delete a site; what is deleted is free after about an hour",
		blob.ErrFull, need>>20+1, info.Config.MaxBytes>>20, max(room, 0)>>20)
}

// Upload is blobs that a publisher of a site sends, one after another. While one is stored the next may be read.
type Upload struct {
	store *Store
	site  string
	blobs *blob.Upload
}

// Upload begins to take blobs of a site. The caller calls Wait in the end.
func (s *Store) Upload(name string) *Upload {
	return &Upload{store: s, site: name, blobs: s.cfg.Blobs.Upload()}
}

// Put stores a blob that a manifest names. r has its bytes and nothing else. The error is ErrUnknownBlob if no manifest
// of the site that Begin took names it with that size, or one of blob.Upload.Put.
func (u *Upload) Put(ctx context.Context, digest node.Digest, size int64, r io.Reader) error {
	b, ok := u.store.pending.blob(u.site, digest, size, u.store.cfg.Now())
	if !ok {
		return ErrUnknownBlob
	}
	return u.blobs.Put(ctx, b, r)
}

// Wait waits until all blobs are stored, and returns the first error.
func (u *Upload) Wait() error { return u.blobs.Wait() }

// Publication says how a deploy is to be made live or a preview.
type Publication struct {
	ID      node.Digest
	IfLive  *node.Digest // what must be live until then, zero for nothing; nil for whatever is
	Preview string       // name of the preview that it becomes; empty to make it live
	Until   time.Time    // end of the preview
	All     bool         // fail unless every node has it, also those that are away
	By      string
	Message string
}

// Publish makes a deploy live, or a preview, whose manifest Begin took or which the bucket has already. It waits until
// the nodes have it, and calls each for every answer of theirs. A deploy that no node has isn't made live. Errors:
// ErrUnknownDeploy, ErrNotReady, ErrLimit, LostRaceError, and MissingError if blobs weren't sent.
func (s *Store) Publish(ctx context.Context, name string, p Publication, each func(*Answer)) (*Published, error) {
	s.Follow()
	if err := s.checkLimits(ctx, name, p.Preview); err != nil {
		return nil, err
	}
	if p.Preview != "" && p.Until.Sub(s.cfg.Now()) > maxPreview {
		return nil, fmt.Errorf("%w: a preview ends within a year", ErrLimit)
	}
	if p.Preview == "" && p.IfLive != nil { // so that nobody waits for a change that can't be made
		now, err := s.live(ctx, name)
		if err != nil {
			return nil, err
		}
		if now.change.ID != *p.IfLive && now.change.ID != p.ID {
			return nil, &LostRaceError{Live: now.change.ID, Wanted: *p.IfLive}
		}
	}
	revision, err := s.stage(ctx, name, &p)
	if err != nil {
		return nil, err
	}
	behind, err := s.awaitReady(ctx, name, &p, each)
	if err != nil {
		return nil, err
	}
	if p.Preview != "" {
		k := key{site: name, kind: kindPreview, name: p.Preview}
		record := Preview{Version: recordVersion, ID: p.ID, Until: p.Until, At: s.cfg.Now(), By: p.By}
		if _, err := s.bucket.put(ctx, k, encode(record)); err != nil {
			return nil, err
		}
		return &Published{Live: p.ID, Preview: p.Preview, Behind: behind}, nil
	}
	return s.change(ctx, name, plan{
		change: Change{ID: p.ID, By: p.By, Why: WhyPublish, Message: p.Message}, ifLive: p.IfLive, record: revision,
		from: s.known(ctx, name),
	})
}

// awaitReady waits until the nodes have a deploy, and returns the names of those that don't.
func (s *Store) awaitReady(ctx context.Context, name string, p *Publication, each func(*Answer)) ([]string, error) {
	answers, err := s.ask(ctx, question{Site: name, ID: p.ID}, s.ready, each)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err // the caller has gone
	}
	behind := without(answers)
	if len(behind) == len(answers) {
		for _, a := range answers {
			if a.Error != "" {
				return nil, fmt.Errorf("%w, and none has it: %s: %s", ErrNotReady, a.Node, a.Error)
			}
		}
		return nil, fmt.Errorf("%w, and none has it: %v", ErrNotReady, behind)
	}
	if p.All && len(behind) > 0 {
		return nil, fmt.Errorf("%w: %v", ErrNotReady, behind)
	}
	return behind, nil
}

// MissingError means that blobs of a deploy weren't sent.
type MissingError struct{ Missing []node.Blob }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d files of the deploy weren't sent: publish again", len(e.Missing))
}

// stage writes the record of a deploy, by which all nodes begin to bring it, and returns its revision.
func (s *Store) stage(ctx context.Context, name string, p *Publication) (revision uint64, err error) {
	k := pendingKey{name, p.ID}
	b := s.pending.use(k, s.cfg.Now())
	if b == nil {
		_, revision, err := s.hold(ctx, name, p.ID)
		return revision, err
	}
	blobs := slices.Collect(maps.Values(b.blobs))
	asked := time.Now()
	if err := s.checkMissing(ctx, blobs); err != nil {
		return 0, err
	}
	manifest, err := s.cfg.Blobs.PutBytes(ctx, b.data)
	if err != nil {
		return 0, fmt.Errorf("store the manifest: %w", err)
	}
	record := Record{
		Version: recordVersion, Manifest: manifest, Files: b.files, Bytes: b.size, At: s.cfg.Now(), By: p.By,
		Message: p.Message,
	}
	// It may be there already, or have been and be deleted. In any case it is a new one from now on.
	revision, err = s.bucket.put(ctx, key{site: name, kind: kindDeploy, id: p.ID}, encode(record))
	if err != nil {
		return 0, err
	}
	if time.Since(asked) > s.grace/2 { // Collect may have been faster
		if err := s.checkMissing(ctx, append(blobs, manifest)); err != nil {
			return 0, err
		}
	}
	s.pending.drop(k)
	return revision, nil
}

func (s *Store) checkMissing(ctx context.Context, blobs []node.Blob) error {
	missing, err := s.cfg.Blobs.Missing(ctx, blobs)
	if err != nil {
		return fmt.Errorf("look for the files of the deploy: %w", err)
	}
	if len(missing) > 0 {
		return &MissingError{missing}
	}
	return nil
}
