package site

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// previewDigits is how many digits of the deploy's id the host of a preview has: 80 bits that nobody guesses.
const previewDigits = 20

// previewOf returns the deploy of the preview that a host names: NAME-ID in place of the star. It is nil if there is
// none.
func (p *Policy) previewOf(host string) *Deploy {
	label, ok := PreviewLabel(p.preview, host)
	at := len(label) - previewDigits - 1
	if !ok || at < 1 || label[at] != '-' {
		return nil
	}
	d := p.parts[0].site.State().Previews[label[:at]]
	if d == nil || d.ID.String()[:previewDigits] != label[at+1:] {
		return nil
	}
	return d
}

// PreviewHost returns the host at which a preview of a deploy is served; "" if the pattern is empty: the site has none.
func PreviewHost(pattern, name string, id node.Digest) string {
	_, domain, ok := strings.Cut(pattern, "*.")
	if !ok {
		return ""
	}
	return name + "-" + id.String()[:previewDigits] + "." + domain
}

// PreviewLabel returns what a host has in place of the star of a preview host. ok is false if it doesn't match. host
// may have a port.
func PreviewLabel(pattern, host string) (label string, ok bool) {
	label, ok = strings.CutSuffix(http1.HostName(host), strings.TrimPrefix(pattern, "*"))
	return label, ok && label != "" && !strings.Contains(label, ".")
}

// markPreview sets the fields of every response of a preview: nobody lists it, nobody keeps it.
func markPreview(h *mesh.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Robots-Tag", "noindex")
}
