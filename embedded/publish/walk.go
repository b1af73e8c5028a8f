package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"millrace/node/site"
)

// walker lists the files of a folder.
type walker struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call of Scan
	root   *os.Root
	opts   ScanOptions
	limits Limits

	found   problems
	files   []*File
	rules   map[string]string // resolved names of _headers and _redirects, by name
	entries int               // looked at so far
	total   int64             // bytes of files so far
}

// errEnough ends the walk: a limit was reached, and a problem says so.
var errEnough = errors.New("enough")

// directory is one on the way of a walk.
type directory struct {
	name, resolved string        // "" at the top
	above          []fs.FileInfo // it and those that it is in, to find links that lead back
	only           bool          // only what a pattern of Options.Include names
}

// all walks the folder.
func (w *walker) all() error {
	w.rules = map[string]string{}
	info, err := w.root.Stat(".")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	err = w.walk(directory{above: []fs.FileInfo{info}})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	slices.SortFunc(w.files, func(a, b *File) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// walk adds what is in a directory.
func (w *walker) walk(in directory) error {
	entries, err := w.list(in)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(in, e); err != nil {
			return err
		}
	}
	return nil
}

// list returns the entries of a directory by name. One that can't be read is a problem.
func (w *walker) list(in directory) (entries []fs.DirEntry, err error) {
	at := in.resolved
	if at == "" {
		at = "."
	}
	dir, err := w.root.Open(filepath.FromSlash(at))
	if err != nil {
		w.found.add(Bad, in.name, "can't be read: %v", plain(err))
		return nil, nil
	}
	defer dir.Close() // it was read only
	for {
		some, err := dir.ReadDir(1024)
		entries = append(entries, some...)
		if w.entries += len(some); w.entries > 2*w.limits.Files {
			w.found.add(Bad, "", "the folder has more than %d files and folders", 2*w.limits.Files)
			return nil, errEnough
		}
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			w.found.add(Bad, in.name, "can't be read: %v", plain(err))
			break
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// entry adds one entry of a directory.
func (w *walker) entry(in directory, e fs.DirEntry) error {
	name := path.Join(in.name, e.Name())
	if strings.ContainsAny(e.Name(), "/") || e.Name() == ".." {
		w.found.add(Bad, name, "has a name that no file may have")
		return nil
	}
	leads := w.leads(name)
	if !w.wanted(in, e.Name(), name, leads) {
		return nil
	}
	resolved, info, err := resolve(w.root, path.Join(in.resolved, e.Name()))
	if err != nil {
		w.found.add(Bad, name, "%v", err)
		return nil
	}
	if link := e.Type() == fs.ModeSymlink; link && !w.opts.AllowSecrets {
		if part := secretPath(resolved); part != "" {
			w.found.add(Bad, name, "is a link to %s, which looks like a secret: remove it, or publish it with "+
				"--allow-secrets", showName(resolved))
			return nil
		}
	}
	switch {
	case info.IsDir():
		only := (in.only || leads) && !included(w.opts.Include, name)
		return w.directory(directory{name, resolved, append(slices.Clip(in.above), info), only})
	case leads && (in.only || hidden(e.Name())) && !included(w.opts.Include, name):
		return nil // a pattern that means something in a folder of that name
	case !info.Mode().IsRegular():
		w.found.add(Bad, name, "is %s: only regular files can be published", kind(info.Mode()))
		return nil
	case name == site.HeadersFile || name == site.RedirectsFile:
		w.rules[name] = resolved
		return nil
	}
	return w.file(name, resolved, info)
}

// wanted reports whether an entry is published as far as its name says. leads means that a pattern of Options.Include
// names something below it.
func (w *walker) wanted(in directory, part, name string, leads bool) bool {
	asked := included(w.opts.Include, name) || leads
	switch {
	case hidden(part) && !asked:
		w.found.add(Skipped, name, "is left out, as are all names that begin with a dot (--include publishes it)")
		return false
	case in.only && !asked:
		return false
	case secret(part) && !w.opts.AllowSecrets:
		w.found.add(Bad, name, "looks like a secret: remove it, or publish it with --allow-secrets")
		return false
	}
	return true
}

// leads reports whether a pattern of Options.Include names something below the path.
func (w *walker) leads(name string) bool {
	depth := strings.Count(name, "/") + 1
	return slices.ContainsFunc(w.opts.Include, func(pattern string) bool {
		parts := strings.Split(strings.Trim(pattern, "/"), "/")
		if len(parts) <= depth {
			return false
		}
		ok, err := path.Match(strings.Join(parts[:depth], "/"), name)
		return ok && err == nil
	})
}

// directory walks a directory, unless it is one that the walk is in already.
func (w *walker) directory(d directory) error {
	last := len(d.above) - 1
	if slices.ContainsFunc(d.above[:last], func(above fs.FileInfo) bool { return os.SameFile(above, d.above[last]) }) {
		w.found.add(Bad, d.name, "%v", errLoop)
		return nil
	}
	if last >= site.MaxDepth {
		w.found.add(Bad, d.name, "is too deep: a path may have %d parts", site.MaxDepth)
		return nil
	}
	if path.Base(d.name) == "node_modules" {
		w.found.add(Warning, d.name, "is published too: is this the folder that the build wrote?")
	}
	return w.walk(d)
}

// file adds a regular file.
func (w *walker) file(name, resolved string, info fs.FileInfo) error {
	served, err := site.CheckName(name)
	if err != nil {
		w.found.add(Bad, name, "%v", err)
		return nil
	}
	if info.Size() > w.limits.File {
		w.found.add(Bad, name, "%v", tooLarge(info.Size(), w.limits.File))
		return nil
	}
	if len(w.files) == w.limits.Files {
		w.found.add(Bad, "", "the folder has more than %d files", w.limits.Files)
		return errEnough
	}
	if w.total += info.Size(); w.total > w.limits.Total {
		w.found.add(Bad, "", "the files have more than %s together", ShowBytes(w.limits.Total))
		return errEnough
	}
	if strings.HasSuffix(name, ".map") {
		w.found.add(Warning, name, "is a source map: everybody can read the source that it holds")
	}
	w.files = append(w.files, &File{Name: name, Path: served, resolved: resolved})
	return nil
}

// compareNames finds names that differ, but not for everybody.
func (w *walker) compareNames() {
	paths, folded := map[string]string{}, map[string]string{} // names by path, and by path in lower case
	for _, file := range w.files {
		if other, ok := paths[file.Path]; ok {
			w.found.add(Bad, file.Name, "has the same URL as %q, which is written with other Unicode characters",
				other)
			continue
		}
		paths[file.Path] = file.Name
		lower := strings.ToLower(norm.NFC.String(file.Name))
		if other, ok := folded[lower]; ok {
			w.found.add(Warning, file.Name, "differs from %s by upper and lower case only", showName(other))
			continue
		}
		folded[lower] = file.Name
	}
}

// kind says what a file is that isn't a regular one.
func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}
