package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/node"
)

// recordVersion is the version of the records and messages of this package. Those of another version are ignored.
const recordVersion = 1

// Record describes a deploy of a site. It is a key of the bucket.
type Record struct {
	Version  int       `json:"v"`
	Manifest node.Blob `json:"manifest"` // its digest is the deploy's id
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"` // of the files without their precompressed forms
	At       time.Time `json:"at"`
	By       string    `json:"by,omitempty"`      // who published it, as the publisher says
	Message  string    `json:"message,omitempty"` // likewise, why
	// Leaves is when it was found that the deploy needn't be kept; zero if it must be. It is deleted leaveTime later.
	Leaves time.Time `json:"leaves,omitzero"`
}

// ID returns the id of the deploy.
func (r *Record) ID() node.Digest { return r.Manifest.Digest }

// Change is a record of the live deploy. The bucket keeps the last 64 of a site as its history.
type Change struct {
	Version int         `json:"v"`
	ID      node.Digest `json:"id"` // zero if the site was deleted
	At      time.Time   `json:"at"`
	By      string      `json:"by,omitempty"`
	Why     string      `json:"why"` // WhyPublish, WhyRollback, WhyPromote or WhyDelete
	Message string      `json:"message,omitempty"`
	Was     node.Digest `json:"was,omitzero"` // what was live before; zero for nothing
	// Floor is the revision of the last record that deleted the site. Deploys and previews whose records are older
	// were deleted with it, whether or not their keys are still there.
	Floor uint64 `json:"floor,omitempty"`
}

// floor returns below which revision the site's records count as deleted. revision is that of the change.
func (c *Change) floor(revision uint64) uint64 {
	if c.Version != 0 && c.ID == (node.Digest{}) {
		return revision
	}
	return c.Floor
}

// The reasons of a Change.
const (
	WhyPublish  = "publish"
	WhyRollback = "rollback"
	WhyPromote  = "promote"
	WhyDelete   = "delete"
)

// Preview is a record of a deploy that is served under a name and host of its own.
type Preview struct {
	Version int         `json:"v"`
	ID      node.Digest `json:"id"`
	Until   time.Time   `json:"until"`
	At      time.Time   `json:"at"`
	By      string      `json:"by,omitempty"`
}

// keyKind says what a key of the bucket is about.
type keyKind string

const (
	kindDeploy  keyKind = "d"
	kindPreview keyKind = "p"
	kindLive    keyKind = "live"
	kindOther   keyKind = "other" // of a site, but not of this version
)

// key is a key of the bucket: SITE.live, SITE.d.ID or SITE.p.NAME. Beside them there is keeperKey.
type key struct {
	site string
	kind keyKind
	id   node.Digest // of a deploy
	name string      // of a preview
}

func (k key) String() string {
	switch k.kind {
	case kindDeploy:
		return k.site + ".d." + k.id.String()
	case kindPreview:
		return k.site + ".p." + k.name
	case kindLive, kindOther:
	}
	return k.site + ".live"
}

var errKey = errors.New("no key of this version")

// parseKey reads what String writes. Of a key that isn't of this version it returns the site, with kindOther. The error
// is errKey if it is about no site at all.
func parseKey(s string) (key, error) {
	site, rest, _ := strings.Cut(s, ".")
	if !node.ValidName(site) {
		return key{}, errKey
	}
	kind, name, _ := strings.Cut(rest, ".")
	switch k := (key{site: site, kind: keyKind(kind)}); {
	case rest == string(kindLive):
		return k, nil
	case k.kind == kindPreview && node.ValidName(name):
		k.name = name
		return k, nil
	case k.kind == kindDeploy:
		if id, err := node.ParseDigest(name); err == nil {
			k.id = id
			return k, nil
		}
	}
	return key{site: site, kind: kindOther}, nil
}

// decode reads a record of this version into out. version points to its field Version.
func decode(data []byte, out any, version *int) error {
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read a record of a site: %w", err)
	}
	if *version != recordVersion {
		return fmt.Errorf("read a record of a site: version %d, not %d: update this node", *version, recordVersion)
	}
	return nil
}

// encode writes a record. Records consist of what JSON can always express.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return data
}
