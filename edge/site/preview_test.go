package site_test

import (
	"strings"
	"testing"

	"millrace/edge/edgetest"
	esite "millrace/edge/site"
	"millrace/node"
	"millrace/node/site"
)

// previewsOf starts a rig with a route to a site and the service s, and a preview of that site. It gives the host of
// the preview.
func previewsOf(t *testing.T, route node.Route) (r *edgetest.Rig, host string) {
	t.Helper()
	s := edgetest.NewSites(t)
	s.SetPreview("www", "*.preview.test")
	d := s.Deploy(t, edgetest.Folder{"/index.html": "draft"}, site.Options{})
	s.Named("www").Set(esite.State{Live: d, Previews: map[string]*esite.Deploy{"draft": d}})
	r = edgetest.Start(t, edgetest.Config{Routes: []node.Route{route}, Sites: s})
	echo(t, r)
	return r, "draft-" + d.ID.String()[:20] + ".preview.test"
}

// The origin of a route gets requests of a preview's host only if there is such a preview, whatever their method.
func TestNoPreviewNoOrigin(t *testing.T) {
	r, host := previewsOf(t, edgetest.SiteRoute("/*", "site:www", "service:s"))
	for _, c := range []struct {
		method, host string
		status       int
	}{
		{"POST", host, 200},
		{"GET", host, 200},
		{"POST", "x.preview.test", 404},
		{"GET", "x.preview.test", 404},
		{"DELETE", "draft-" + strings.Repeat("0", 20) + ".preview.test", 404},
		{"OPTIONS", "x.preview.test", 404},
	} {
		resp, body := r.Raw(t, c.method+" /api HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n\r\n")
		if resp.StatusCode != c.status || strings.HasPrefix(body, "app ") != (c.status == 200) {
			t.Errorf("%s at %s: got %d %q, want %d", c.method, c.host, resp.StatusCode, body, c.status)
		}
	}
}

// An encoded slash is refused at a preview as elsewhere.
func TestEncodedSlashAtAPreview(t *testing.T) {
	route := edgetest.SiteRoute("/*", "site:www", "service:s")
	for _, take := range []node.EncodedSlash{node.EncodedSlashRefuse, node.EncodedSlashKeep} {
		route.EncodedSlash = take
		r, host := previewsOf(t, route)
		resp, body := r.Raw(t, "GET /a%2Fb HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if (resp.StatusCode == 400) != (take == node.EncodedSlashRefuse) {
			t.Errorf("%s: got %d %q", take, resp.StatusCode, body)
		}
	}
}

// A preview passes nothing on that its route keeps from the origin: other paths, methods, and requests without the
// fields that the route asks for.
func TestPreviewsOpenNoOrigin(t *testing.T) {
	below := edgetest.SiteRoute("/shop/*", "site:www", "service:s")
	rewritten := edgetest.SiteRoute("/*", "site:www", "service:s")
	rewritten.Rewrite = &node.Rewrite{}
	if err := rewritten.Rewrite.Path.UnmarshalText([]byte("/public/{*}")); err != nil {
		t.Fatal(err)
	}
	reading := edgetest.SiteRoute("/*", "site:www", "service:s")
	asking := edgetest.SiteRoute("/*", "site:www", "service:s")
	edgetest.Methods("GET")(&reading)
	edgetest.Needs("X-Key", "secret")(&asking)
	for name, route := range map[string]node.Route{
		"path": below, "rewrite": rewritten, "method": reading, "field": asking,
	} {
		t.Run(name, func(t *testing.T) {
			r, host := previewsOf(t, route)
			for _, method := range []string{"GET", "POST"} {
				resp, body := r.Raw(t, method+" /admin HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
				if resp.StatusCode < 400 {
					t.Errorf("%s: got %d %q", method, resp.StatusCode, body)
				}
			}
			_, body := r.Raw(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			if body != "draft" {
				t.Errorf("the preview: got %q", body)
			}
		})
	}
}
