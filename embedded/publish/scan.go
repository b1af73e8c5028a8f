package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"millrace/node"
	"millrace/node/site"
)

// ScanOptions are the options of Scan. The zero value is the usual case.
type ScanOptions struct {
	// Include has patterns (path.Match) of names with a dot that are published all the same, such as .htaccess or
	// .config/*. They are compared with the path in the folder and with its last part.
	Include []string
	// AllowSecrets publishes files whose names say that they are secret, such as server.pem.
	AllowSecrets bool
	// Limits bound what is read.
	Limits Limits

	// read is called after the bytes of a file were read and before its state is compared; for tests.
	read func(name string, attempt int)
}

// Limits bound a folder. Zero is the default, which is that of a manifest.
type Limits struct {
	Files int   // files, and as many folders again
	File  int64 // bytes of one file
	Total int64 // bytes of all files
}

// defaultTotal is the default of Limits.Total: beyond it a folder is hardly a site.
const defaultTotal = 1 << 40

func (l Limits) orDefault() Limits {
	if l.Files <= 0 {
		l.Files = site.MaxFiles
	}
	if l.File <= 0 {
		l.File = site.MaxFile
	}
	if l.Total <= 0 {
		l.Total = defaultTotal
	}
	return l
}

// Scan reads a folder: which files it has, their digests and its rules. Nothing outside of it is read, whatever links
// there are. What is wrong with the folder is in Folder.Problems (Folder.Err); the error is about what can't be read at
// all: the folder itself, or ctx. It reads with a few goroutines and a few MiB of memory, however large files are.
func Scan(ctx context.Context, dir string, opts ScanOptions) (folder *Folder, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	limits := opts.Limits.orDefault()
	f := &Folder{
		root: root, limit: limits.File, sources: map[node.Digest]source{}, spool: spool{bytes: 2 * limits.Total},
		codings: map[node.Digest]map[site.Coding]node.Blob{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	w := &walker{ctx: ctx, root: root, opts: opts, limits: limits}
	if err := w.all(); err != nil {
		return nil, err
	}
	w.compareNames()
	if err := f.hash(ctx, w); err != nil {
		return nil, err
	}
	if err := f.checkBeside(ctx, &w.found); err != nil {
		return nil, err
	}
	f.readRules(ctx, w)
	f.Problems = w.found.sorted()
	return f, nil
}

// hash reads all files with a few goroutines.
func (f *Folder) hash(ctx context.Context, w *walker) error {
	work := make(chan *File) // closed below
	var mu sync.Mutex        // guards w.found, f.Files and f.sources
	var wg sync.WaitGroup
	for range min(max(runtime.GOMAXPROCS(0), 1), maxEncoders) {
		wg.Go(func() {
			r := newReader(f.root, f.limit)
			for file := range work {
				problem := f.hashOne(ctx, r, file, w.opts)
				mu.Lock()
				if problem != nil {
					w.found.add(Bad, file.Name, "%v", problem)
				}
				mu.Unlock()
			}
		})
	}
	for _, file := range w.files {
		if ctx.Err() != nil {
			break
		}
		work <- file
	}
	close(work)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	f.Files = w.files
	for _, file := range f.Files {
		f.sources[file.Digest] = source{file: file, blob: file.Blob}
	}
	return nil
}

// errSecretKey means that a file is a private key.
var errSecretKey = errors.New("is a private key: remove it, or publish it with --allow-secrets")

func (f *Folder) hashOne(ctx context.Context, r *reader, file *File, opts ScanOptions) (err error) {
	file.Blob, file.at, err = r.blob(ctx, file.resolved, func(attempt int) {
		if opts.read != nil {
			opts.read(file.Name, attempt)
		}
	})
	if err == nil && !opts.AllowSecrets && privateKey(r.head) {
		err = errSecretKey
	}
	return err
}

// readRules parses the files _headers and _redirects and checks the manifest as nodes do.
func (f *Folder) readRules(ctx context.Context, w *walker) {
	if text, ok := f.readRuleFile(ctx, w, site.HeadersFile); ok {
		var wrong []site.Mistake
		f.headers, wrong = site.ParseHeaders(site.HeadersFile, text)
		w.found.mistakes(wrong)
	}
	if text, ok := f.readRuleFile(ctx, w, site.RedirectsFile); ok {
		var wrong []site.Mistake
		f.redirects, wrong = site.ParseRedirects(site.RedirectsFile, text)
		w.found.mistakes(wrong)
	}
	if w.found.bad() {
		return // more would be about files that are missing for these reasons
	}
	if wrong, err := site.Review(f.Manifest(), site.Options{}); err != nil {
		w.found.add(Bad, "", "%v", err)
	} else {
		w.found.mistakes(wrong)
	}
	if len(f.Files) == 0 {
		w.found.add(Bad, "", "the folder has no files to publish")
	} else if _, ok := f.Manifest().Files["/index.html"]; !ok {
		w.found.add(Warning, "", "there is no index.html at the top: is this the folder that the build wrote?")
	}
}

// maxRuleBytes bounds a file of rules, in bytes.
const maxRuleBytes = 4 << 20

// readRuleFile returns the content of a file of rules, if there is one.
func (f *Folder) readRuleFile(ctx context.Context, w *walker, name string) ([]byte, bool) {
	resolved, ok := w.rules[name]
	if !ok {
		return nil, false
	}
	r := newReader(f.root, maxRuleBytes)
	blob, at, err := r.blob(ctx, resolved, nil)
	var text []byte
	if err == nil {
		text, err = f.root.ReadFile(filepath.FromSlash(resolved))
	}
	if err == nil && (node.DigestOf(text) != blob.Digest || int64(len(text)) != at.size) {
		err = errChanges
	}
	if err != nil {
		w.found.add(Bad, name, "%v", err)
		return nil, false
	}
	return text, true
}
