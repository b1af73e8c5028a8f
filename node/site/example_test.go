package site_test

import (
	"fmt"

	"millrace/node"
	"millrace/node/site"
)

func Example() {
	m := &site.Manifest{Version: site.Version, Files: map[string]site.File{}}
	for _, name := range []string{"index.html", "guide.html", "assets/app.0f3b2a1c.js"} {
		path, err := site.CheckName(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		m.Files[path] = site.File{Blob: node.Blob{Digest: node.DigestOf([]byte(name)), Size: int64(len(name))}}
	}
	m.Redirects, _ = site.ParseRedirects("_redirects", []byte("/docs/* /guide 301\n"))
	text, err := site.Encode(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	index, err := site.NewIndex(node.DigestOf(text), m, site.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, path := range []string{"/", "/guide", "/guide.html", "/docs/start", "/assets/app.0f3b2a1c.js", "/none"} {
		a := index.Find(path)
		if a.Status == 0 {
			a = index.Fallback(path, false)
		}
		switch {
		case a.File != nil:
			fmt.Println(path, a.Status, a.File.Path, site.CacheControl(a.File, a.Status))
		default:
			fmt.Println(path, a.Status, a.Location)
		}
	}
	// Output:
	// / 200 /index.html public, max-age=0, must-revalidate
	// /guide 200 /guide.html public, max-age=0, must-revalidate
	// /guide.html 307 /guide
	// /docs/start 301 /guide
	// /assets/app.0f3b2a1c.js 200 /assets/app.0f3b2a1c.js public, max-age=31536000, immutable
	// /none 404
}
