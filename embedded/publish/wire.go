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

// Shown is what is known of a site, and where clients find it.
type Shown struct {
	Summary

	URL         string            `json:"url"`          // empty if no route leads to the site
	PreviewURLs map[string]string `json:"preview_urls"` // by name; those that have one
}

// Published is what a change did. URL is where clients find the site, or the preview; empty if no route leads there.
type Published struct {
	deploy.Published

	URL string `json:"url,omitempty"`
}
