package site

import (
	"slices"
	"strings"

	"millrace/node"
)

// maxNear is how many paths Near returns.
const maxNear = 3

// Near returns URLs of the site that a path which isn't found may have meant, at most three, the likeliest first: with
// other capitals, with or without a slash at its end, in another folder, or with a similar name. It reads all paths, so
// it is for people and not for requests.
func (x *Index) Near(path string) []string {
	path = lookupPath(path)
	folder, name := splitName(path)
	var same, moved []string
	siblings := map[string]string{}
	for i := range x.entries {
		url := x.entries[i].URL
		f, n := splitName(url)
		switch {
		case strings.EqualFold(bare(url), bare(path)):
			same = append(same, url)
		case strings.EqualFold(f, folder):
			siblings[n] = url
		case n == name && n != "":
			moved = append(moved, url)
		}
	}
	return first(slices.Concat(same, similar(name, siblings), moved), maxNear)
}

// similar returns the URLs whose names are closest to a name.
func similar(name string, urls map[string]string) []string {
	names := make([]string, 0, len(urls))
	for n := range urls {
		names = append(names, n)
	}
	slices.Sort(names)
	var all []string
	for range maxNear {
		nearest := node.Nearest(name, names)
		if nearest == "" {
			break
		}
		all = append(all, urls[nearest])
		names = slices.DeleteFunc(names, func(n string) bool { return n == nearest })
	}
	return all
}

// splitName returns the folder of a path, and its last name without slash and .html.
func splitName(path string) (folder, name string) {
	path = strings.TrimSuffix(path, "/")
	i := strings.LastIndexByte(path, '/') + 1
	return path[:i], strings.TrimSuffix(path[i:], endHTML)
}

// bare returns a path without what slash modes add and take.
func bare(path string) string { return strings.TrimSuffix(strings.TrimSuffix(path, "/"), endHTML) }

func first(s []string, n int) []string { return s[:min(n, len(s))] }
