package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"millrace/node/config"
)

// docsRoot is the root of the module, whose documents these tests read.
const docsRoot = "../.."

// document is a markdown file: README.md, DESIGN.md or PROTOCOL.md of a package.
type document struct {
	path   string // relative to docsRoot
	text   string
	blocks []docBlock
}

// docBlock is the text between two lines of ```.
type docBlock struct {
	language, text string
	line           int // of its first line
}

// documents returns all documents of the tree.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	err := filepath.WalkDir(docsRoot, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && path != docsRoot && (name == "testdata" || name == "node_modules" || name[0] == '.'):
			return filepath.SkipDir
		case filepath.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(docsRoot, path)
		all = append(all, document{path: below, text: string(text), blocks: docBlocks(string(text))})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"README.md", "mesh/PROTOCOL.md", "embedded/README.md"} {
		if !slices.ContainsFunc(all, func(d document) bool { return d.path == must }) {
			t.Fatalf("%s isn't there", must)
		}
	}
	return all
}

// docBlocks returns the fenced blocks of a text.
func docBlocks(text string) []docBlock {
	var all []docBlock
	inside := false
	for i, line := range strings.SplitAfter(text, "\n") {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && !inside:
			all = append(all, docBlock{language: language, line: i + 2})
			inside = true
		case fence:
			inside = false
		case inside:
			all[len(all)-1].text += line
		}
	}
	return all
}

// The README is short, no line is too long, and each block names its language: yaml and sh are tested, js is an example
// for Node.js, and text isn't executable.
func TestDocsShape(t *testing.T) {
	const lines, columns = 120, 120
	for _, d := range documents(t) {
		if n := strings.Count(d.text, "\n"); d.path == "README.md" && n > lines {
			t.Errorf("%s has %d lines, want at most %d", d.path, n, lines)
		}
		for i, line := range strings.Split(d.text, "\n") {
			if n := utf8.RuneCountInString(line); n > columns {
				t.Errorf("%s:%d has %d columns, want at most %d", d.path, i+1, n, columns)
			}
		}
		for _, b := range d.blocks {
			if !slices.Contains([]string{"yaml", "sh", "js", "text"}, b.language) {
				t.Errorf("%s:%d: a block of %q, want yaml, sh, js or text", d.path, b.line, b.language)
			}
		}
	}
}

var docLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Every relative link leads to an existing file.
func TestDocsLinks(t *testing.T) {
	for _, d := range documents(t) {
		for _, m := range docLink.FindAllStringSubmatch(d.text, -1) {
			if strings.Contains(m[1], "://") {
				continue // an external link
			}
			file, _, _ := strings.Cut(m[1], "#")
			if _, err := os.Stat(filepath.Join(docsRoot, filepath.Dir(d.path), file)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere: %v", d.path, m[1], err)
			}
		}
	}
}

var docVariable = regexp.MustCompile(`\$\{(\w+)\}`)

// Every YAML block is a complete configuration file without mistakes or warnings. Its environment variables are set.
func TestDocsConfigurations(t *testing.T) {
	n := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language != "yaml" {
				continue
			}
			n++
			for _, m := range docVariable.FindAllStringSubmatch(b.text, -1) {
				t.Setenv(m[1], "n1-or-a-secret-that-is-long")
			}
			path := filepath.Join(t.TempDir(), "millrace.yaml")
			if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := config.Read(path)
			if err != nil {
				t.Errorf("%s:%d: %v", d.path, b.line, err)
			}
			for _, w := range file.Warnings {
				t.Errorf("%s:%d: %v", d.path, b.line, w)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d blocks, want those of all READMEs", n)
	}
}

// Every command works. The sh blocks of a document run line by line in a directory of its own, where a YAML block that
// begins with a comment with a file name is that file. See docShell for the allowed lines.
func TestDocsCommands(t *testing.T) {
	commands := 0
	for _, d := range documents(t) {
		if !slices.ContainsFunc(d.blocks, func(b docBlock) bool { return b.language == "sh" }) {
			continue
		}
		for _, b := range d.blocks {
			if b.language == "sh" {
				commands += strings.Count(b.text, "\n")
			}
		}
		t.Run(strings.TrimSuffix(d.path, ".md"), func(t *testing.T) {
			s := newDocShell(t, filepath.Join(docsRoot, filepath.Dir(d.path)))
			for _, b := range d.blocks {
				name, named := strings.CutPrefix(strings.SplitN(b.text, "\n", 2)[0], "# ")
				switch {
				case b.language == "yaml" && named:
					s.save(name, b.text)
				case b.language == "sh":
					for i, line := range strings.Split(b.text, "\n") {
						s.line = d.path + ":" + strconv.Itoa(b.line+i) + ": " + line
						s.run(line)
					}
				}
			}
			s.stop()
		})
	}
	if commands < 60 {
		t.Errorf("%d commands, want those of all READMEs", commands)
	}
}
