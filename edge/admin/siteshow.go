package admin

import "millrace/kvcache/deploy"

// SiteShown says what is known of a site, and where clients find it.
type SiteShown struct {
	*deploy.Summary

	URL         string            `json:"url,omitempty"`          // empty if no route leads to the site
	PreviewURLs map[string]string `json:"preview_urls,omitempty"` // by name; those that have one
}

// showSite adds the URLs. sum is nil if there was an error.
func showSite(n Sites, sum *deploy.Summary) *SiteShown {
	if sum == nil {
		return nil
	}
	out := &SiteShown{Summary: sum, URL: n.URL(sum.Site, "", sum.Live), PreviewURLs: map[string]string{}}
	for name, p := range sum.Previews {
		if at := n.URL(sum.Site, name, p.ID); at != "" {
			out.PreviewURLs[name] = at
		}
	}
	return out
}
