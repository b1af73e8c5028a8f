package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

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
)

// readyWait is how long a change waits until the nodes have a deploy, and servedWait until they serve it.
const (
	readyWait  = 30 * time.Second
	servedWait = 5 * time.Second
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
// error is ErrManifest if the manifest is invalid.
func (s *Store) Begin(ctx context.Context, name string, data []byte) (*Begun, error) {
	m, err := site.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	s.Follow()
	blobs := m.Blobs()
	b := &begun{
		id: node.DigestOf(data), data: data, manifest: m, blobs: make(map[node.Digest]node.Blob, len(blobs)),
		at: s.cfg.Now(),
	}
	for _, blob := range blobs {
		b.blobs[blob.Digest] = blob
	}
	missing, err := s.cfg.Blobs.Missing(ctx, blobs)
	if err != nil {
		return nil, fmt.Errorf("look for the files of the deploy: %w", err)
	}
	live, _, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	s.pending.add(b)
	files, bytes := totals(m)
	out := &Begun{ID: b.id, Missing: make([]node.Digest, 0, len(missing)), Files: files, Bytes: bytes, Live: live.ID}
	for _, blob := range missing {
		out.Missing = append(out.Missing, blob.Digest)
	}
	return out, nil
}

func totals(m *site.Manifest) (files int, bytes int64) {
	for _, f := range m.Files {
		bytes += f.Size
	}
	return len(m.Files), bytes
}

// Upload is blobs that a publisher sends, one after another. While one is stored the next may be read.
type Upload struct {
	store *Store
	blobs *blob.Upload
}

// Upload begins to take blobs. The caller calls Wait in the end.
func (s *Store) Upload() *Upload { return &Upload{store: s, blobs: s.cfg.Blobs.Upload()} }

// Put stores a blob that a manifest names. r has its bytes and nothing else. The error is ErrUnknownBlob if no manifest
// that Begin took names it, or one of blob.Upload.Put.
func (u *Upload) Put(ctx context.Context, digest node.Digest, size int64, r io.Reader) error {
	b, ok := u.store.pending.blob(digest, u.store.cfg.Now())
	if !ok || b.Size != size {
		return ErrUnknownBlob
	}
	return u.blobs.Put(ctx, b, r)
}

// Wait waits until all blobs are stored, and returns the first error.
func (u *Upload) Wait() error { return u.blobs.Wait() }

// live returns the record of what is live, with its revision; a zero Change if there is none.
func (s *Store) live(ctx context.Context, name string) (Change, uint64, error) {
	value, revision, err := s.bucket.get(ctx, key{site: name, kind: kindLive})
	if err != nil || value == nil {
		return Change{}, revision, err
	}
	var c Change
	if err := decode(value, &c, &c.Version); err != nil {
		return Change{}, 0, err
	}
	return c, revision, nil
}

// Publication says how a deploy is to be made live or a preview.
type Publication struct {
	ID      node.Digest
	IfLive  *node.Digest // what must be live until then, zero for nothing; nil for whatever is
	Preview string       // name of the preview that it becomes; empty to make it live
	Until   time.Time    // end of the preview
	All     bool         // fail unless every node that is alive has it
	By      string
	Message string
}

// Published is the answer to a change. Behind are the nodes that don't serve it yet, by name.
type Published struct {
	Live     node.Digest `json:"live"`
	Was      node.Digest `json:"was"` // what was live before; zero for nothing
	Revision uint64      `json:"revision,omitempty"`
	Preview  string      `json:"preview,omitempty"`
	Behind   []string    `json:"behind"`
	TookMS   float64     `json:"took_ms"` // from the change until the nodes served it
}

// Publish makes a deploy live, or a preview, whose manifest Begin took or which the bucket has already. It waits until
// the nodes have it, and calls each for every answer of theirs. Errors: ErrUnknownDeploy, ErrNotReady, LostRaceError,
// and MissingError if blobs weren't sent.
func (s *Store) Publish(ctx context.Context, name string, p Publication, each func(*Answer)) (*Published, error) {
	s.Follow()
	if err := s.stage(ctx, name, &p); err != nil {
		return nil, err
	}
	answers, err := s.ask(ctx, question{Site: name, ID: p.ID}, readyWait, each)
	if err != nil {
		return nil, err
	}
	behind := without(answers)
	if p.All && len(behind) > 0 {
		return nil, fmt.Errorf("%w: %v", ErrNotReady, behind)
	}
	if p.Preview != "" {
		record := Preview{Version: recordVersion, ID: p.ID, Until: p.Until, At: s.cfg.Now(), By: p.By}
		err := s.bucket.put(ctx, key{site: name, kind: kindPreview, name: p.Preview}, encode(record))
		return &Published{Live: p.ID, Preview: p.Preview, Behind: behind}, err
	}
	change := Change{ID: p.ID, By: p.By, Why: WhyPublish, Message: p.Message}
	return s.change(ctx, name, change, p.IfLive)
}

// MissingError means that blobs of a deploy weren't sent.
type MissingError struct{ Missing []node.Blob }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d files of the deploy weren't sent: publish again", len(e.Missing))
}

// stage writes the record of a deploy, by which all nodes begin to bring it.
func (s *Store) stage(ctx context.Context, name string, p *Publication) error {
	b := s.pending.use(p.ID, s.cfg.Now())
	if b == nil {
		_, err := s.record(ctx, name, p.ID)
		return err
	}
	blobs := make([]node.Blob, 0, len(b.blobs))
	for _, blob := range b.blobs {
		blobs = append(blobs, blob)
	}
	missing, err := s.cfg.Blobs.Missing(ctx, blobs)
	switch {
	case err != nil:
		return fmt.Errorf("look for the files of the deploy: %w", err)
	case len(missing) > 0:
		return &MissingError{missing}
	}
	manifest, err := s.cfg.Blobs.PutBytes(ctx, b.data)
	if err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	files, bytes := totals(b.manifest)
	record := Record{
		Version: recordVersion, Manifest: manifest, Files: files, Bytes: bytes, At: s.cfg.Now(), By: p.By,
		Message: p.Message,
	}
	_, err = s.bucket.swap(ctx, key{site: name, kind: kindDeploy, id: p.ID}, encode(record), 0)
	if errors.Is(err, errStale) { // it is there already, or was and has been deleted
		return s.bucket.put(ctx, key{site: name, kind: kindDeploy, id: p.ID}, encode(record))
	}
	return err
}

// record reads the record of a deploy. The error is ErrUnknownDeploy if there is none.
func (s *Store) record(ctx context.Context, name string, id node.Digest) (*Record, error) {
	value, _, err := s.bucket.get(ctx, key{site: name, kind: kindDeploy, id: id})
	switch {
	case err != nil:
		return nil, err
	case value == nil:
		return nil, ErrUnknownDeploy
	}
	var r Record
	if err := decode(value, &r, &r.Version); err != nil {
		return nil, err
	}
	return &r, nil
}

// change makes a deploy live by compare-and-set, and waits until the nodes serve it.
func (s *Store) change(ctx context.Context, name string, c Change, ifLive *node.Digest) (*Published, error) {
	c.Version, c.At = recordVersion, s.cfg.Now()
	begun := time.Now()
	var was Change
	var revision uint64
	for {
		before, last, err := s.live(ctx, name)
		if err != nil {
			return nil, err
		}
		if ifLive != nil && *ifLive != before.ID {
			return nil, &LostRaceError{Live: before.ID, Wanted: *ifLive}
		}
		if before.ID == c.ID && last != 0 { // nothing to change
			was, revision = before, last
			break
		}
		revision, err = s.bucket.swap(ctx, key{site: name, kind: kindLive}, encode(c), last)
		if err == nil {
			was = before
			break
		}
		if !errors.Is(err, errStale) {
			return nil, err
		}
	}
	answers, err := s.ask(ctx, question{Site: name, ID: c.ID, Revision: revision}, servedWait, nil)
	if err != nil {
		return nil, err
	}
	return &Published{
		Live: c.ID, Was: was.ID, Revision: revision, Behind: without(answers),
		TookMS: float64(time.Since(begun).Microseconds()) / 1000,
	}, nil
}

// without returns the names of the nodes whose answer isn't NodeReady.
func without(answers []Answer) []string {
	out := []string{}
	for _, a := range answers {
		if a.State != NodeReady {
			out = append(out, a.Node)
		}
	}
	return out
}

// Rollback makes an earlier deploy live again; with a zero id the one that was live before the one that is. Errors:
// ErrUnknownSite, ErrUnknownDeploy, LostRaceError.
func (s *Store) Rollback(ctx context.Context, name string, id node.Digest, by, message string) (*Published, error) {
	s.Follow()
	now, _, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	if now.Version == 0 {
		return nil, ErrUnknownSite
	}
	if id == (node.Digest{}) {
		if id, err = s.previous(ctx, name, now.ID); err != nil {
			return nil, err
		}
	} else if _, err := s.record(ctx, name, id); err != nil {
		return nil, err
	}
	return s.change(ctx, name, Change{ID: id, By: by, Why: WhyRollback, Message: message}, &now.ID)
}

// previous returns the last deploy that was live before the given one and is still kept.
func (s *Store) previous(ctx context.Context, name string, live node.Digest) (node.Digest, error) {
	changes, err := s.changes(ctx, name)
	if err != nil {
		return node.Digest{}, err
	}
	seen := false // the given one, from the newest change on
	for _, c := range slices.Backward(changes) {
		id := c.ID
		if id == live {
			seen = true
			continue
		}
		if !seen || id == (node.Digest{}) {
			continue
		}
		if _, err := s.record(ctx, name, id); err == nil {
			return id, nil
		}
	}
	return node.Digest{}, fmt.Errorf("%w that was live before and is kept", ErrUnknownDeploy)
}

// changes returns the changes of what is live that the bucket still has, oldest first.
func (s *Store) changes(ctx context.Context, name string) ([]Change, error) {
	entries, err := s.bucket.past(ctx, key{site: name, kind: kindLive})
	if err != nil {
		return nil, err
	}
	out := make([]Change, 0, len(entries))
	for _, e := range entries {
		var c Change
		if decode(e.Value(), &c, &c.Version) == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// Promote makes the deploy of a preview live. Errors: ErrUnknownDeploy, LostRaceError.
func (s *Store) Promote(ctx context.Context, name, preview, by, message string) (*Published, error) {
	s.Follow()
	value, _, err := s.bucket.get(ctx, key{site: name, kind: kindPreview, name: preview})
	switch {
	case err != nil:
		return nil, err
	case value == nil:
		return nil, ErrUnknownDeploy
	}
	var p Preview
	if err := decode(value, &p, &p.Version); err != nil {
		return nil, err
	}
	now, _, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, name, Change{ID: p.ID, By: by, Why: WhyPromote, Message: message}, &now.ID)
}

// Delete deletes a site: nothing is live, and all deploys and previews are gone. The error is ErrUnknownSite if nothing
// was published to it.
func (s *Store) Delete(ctx context.Context, name, by string) (*Published, error) {
	s.Follow()
	now, _, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return nil, err
	}
	var out *Published
	if now.Version != 0 && now.ID != (node.Digest{}) {
		if out, err = s.change(ctx, name, Change{By: by, Why: WhyDelete}, &now.ID); err != nil {
			return nil, err
		}
	}
	removed := 0
	for _, u := range updates {
		if u.key.site != name || u.key.kind == kindLive || u.value == nil {
			continue
		}
		if err := s.bucket.remove(ctx, u.key); err != nil {
			return nil, err
		}
		removed++
	}
	if out == nil && removed == 0 {
		return nil, ErrUnknownSite
	}
	if out == nil {
		out = &Published{Behind: []string{}}
	}
	return out, nil
}
