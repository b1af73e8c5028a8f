package publish

import (
	"millrace/edge/admin"
	"millrace/kvcache/deploy"
)

// The types of the admin API.
type (
	// Summary says what is known of a site.
	Summary = deploy.Summary
	// NodeState is how far a node is with a deploy that goes live.
	NodeState = admin.SiteProgress
)

// Published is what a change did. URL is where clients find the site, or the preview; empty if no route leads there.
type Published struct {
	deploy.Published

	URL string `json:"url,omitempty"`
}
