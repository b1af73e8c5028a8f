package site

import (
	"net/http"
	"strings"

	"millrace/node"
)

// stem has the pages that share a name without its ending: /x has html for /x.html, and index for /x/index.html.
type stem struct{ html, index *Entry }

const (
	indexHTML = "/index.html"
	endHTML   = ".html"
)

// addURLs enters the pages by their stems, and gives each the URL that its site's slash mode has for it.
func (x *Index) addURLs() {
	for i := range x.entries {
		e := &x.entries[i]
		name, index, ok := splitPage(e.Path)
		if !ok {
			continue
		}
		s := x.stems[name]
		if index {
			s.index = e
		} else {
			s.html = e
		}
		x.stems[name] = s
	}
	for name, s := range x.stems {
		if s.html != nil {
			s.html.URL = x.htmlURL(name, s)
		}
		if s.index != nil {
			s.index.URL = x.indexURL(name, s)
		}
	}
}

// splitPage returns the stem of a page; ok is false for other files, and for one that has no name but .html.
func splitPage(path string) (name string, index, ok bool) {
	if name, index = strings.CutSuffix(path, indexHTML); index {
		return name, true, true
	}
	if name, ok = strings.CutSuffix(path, endHTML); !ok || strings.HasSuffix(name, "/") {
		return "", false, false
	}
	return name, false, true
}

// htmlURL returns the URL of the page /x.html. It is the file's own path if another file has the shorter one.
func (x *Index) htmlURL(name string, s stem) string {
	switch x.slash {
	case node.SlashAuto, node.SlashNever:
		if x.files[name] == nil && !reserved(name) {
			return name
		}
	case node.SlashAlways:
		if s.index == nil {
			return name + "/"
		}
	case node.SlashKeep:
	}
	return s.html.Path
}

// indexURL returns the URL of the page /x/index.html.
func (x *Index) indexURL(name string, s stem) string {
	folder := s.index.Path[:len(name)+1] // /x/
	switch x.slash {
	case node.SlashAuto, node.SlashAlways:
		return folder
	case node.SlashNever:
		if name == "" {
			return folder
		}
		if x.files[name] == nil && s.html == nil && !reserved(name) {
			return name
		}
	case node.SlashKeep:
	}
	return s.index.Path
}

// reserved reports whether a stem looks like another spelling of a page, so that it can't be a URL of its own.
func reserved(name string) bool {
	return strings.HasSuffix(name, endHTML) || strings.HasSuffix(name, "/index")
}

// findFile answers with the file of a path, or with the page that has it as its URL or as another spelling of that.
func (x *Index) findFile(path string) Answer {
	if e := x.files[path]; e != nil {
		if e.URL == path {
			return Answer{Status: http.StatusOK, File: e, Rule: "file"}
		}
		return moved(e)
	}
	if len(x.stems) == 0 {
		return Answer{}
	}
	name, s, preferIndex := x.spelling(path)
	a := x.pages(s, preferIndex, path)
	if a.Status == 0 && name != path && !strings.HasSuffix(path, "/") { // a folder named index, or x.html
		a = x.pages(x.stems[path], x.slash == node.SlashAlways, path)
	}
	return a
}

// spelling returns the stem that a path means, its pages, and whether the index is preferred to the page beside it.
func (x *Index) spelling(path string) (name string, s stem, preferIndex bool) {
	if name, ok := strings.CutSuffix(path, "/"); ok {
		return name, x.stems[name], x.slash != node.SlashNever
	}
	if name, ok := strings.CutSuffix(path, "/index"); ok {
		return name, x.stems[name], x.slash != node.SlashNever
	}
	if name, ok := strings.CutSuffix(path, indexHTML); ok { // no file has this path, so it isn't the index
		return name, stem{html: x.stems[name].html}, false
	}
	if name, ok := strings.CutSuffix(path, endHTML); ok {
		return name, stem{index: x.stems[name].index}, true
	}
	return path, x.stems[path], x.slash == node.SlashAlways
}

// pages answers with one of the pages that a path means.
func (x *Index) pages(s stem, preferIndex bool, path string) Answer {
	if x.slash == node.SlashKeep { // a folder's index answers to the folder's URL, and nothing redirects
		if s.index != nil && strings.HasSuffix(path, "/") {
			return Answer{Status: http.StatusOK, File: s.index, Rule: "clean URL"}
		}
		return Answer{}
	}
	first, second := s.html, s.index
	if preferIndex {
		first, second = second, first
	}
	if a := x.page(first, path); a.Status != 0 {
		return a
	}
	return x.page(second, path)
}

// page answers with a page that a path means: the page itself if the path is its URL, else a redirect to there. A page
// whose URL is its own path, because two files claim the short one, isn't guessed at.
func (x *Index) page(e *Entry, path string) Answer {
	switch {
	case e == nil:
		return Answer{}
	case e.URL == path:
		return Answer{Status: http.StatusOK, File: e, Rule: "clean URL"}
	case e.URL == e.Path:
		return Answer{}
	}
	return moved(e)
}

// moved redirects to a page's URL. 307, since a browser that kept a 308 would hold to it beyond a rollback.
func moved(e *Entry) Answer {
	return Answer{Status: http.StatusTemporaryRedirect, Location: e.URL, Rule: "clean URL"}
}

// pageTree has the pages 404.html by their folders. The zero value is empty.
type pageTree struct {
	pages map[string]*Entry // by folder without the slash at its end
	depth int               // slashes in the deepest folder
}

func (t *pageTree) add(e *Entry) {
	folder, ok := strings.CutSuffix(e.Path, "/404.html")
	if !ok {
		return
	}
	if t.pages == nil {
		t.pages = map[string]*Entry{}
	}
	t.pages[folder] = e
	t.depth = max(t.depth, strings.Count(folder, "/"))
}

// nearest returns the page of the deepest folder that a path lies in, nil if there is none.
func (t *pageTree) nearest(path string) *Entry {
	if t.pages == nil {
		return nil
	}
	found := t.pages[""]
	for i, depth := 1, 1; i < len(path) && depth <= t.depth; i++ {
		if path[i] == '/' {
			depth++
			if e := t.pages[path[:i]]; e != nil {
				found = e
			}
		}
	}
	return found
}
