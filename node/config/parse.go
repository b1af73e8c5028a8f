package config

import (
	"fmt"
	"io"
	"os"
	"reflect"

	"millrace/node"
)

// MaxFile is the largest configuration file in bytes.
const MaxFile = 1 << 20

// File is a configuration file that was read.
type File struct {
	Config   *node.Config // nil if the file has mistakes
	Text     []byte       // as it was read, variables not yet replaced
	Warnings []Mistake    // what is valid but can hardly be meant, by place; each has Warning set
}

// Read reads and parses a configuration file, with the variables of the process's environment.
//
// The error is Errors when the file could be read, whose Text is there then; it wraps the *os.PathError when it
// couldn't.
func Read(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("read configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	_ = f.Close() // it was only read
	if err != nil {
		return File{}, fmt.Errorf("read configuration: %w", err)
	}
	out := File{Text: data}
	c, root, err := parse(path, data, os.LookupEnv)
	if err == nil {
		out.Config, out.Warnings = c, warn(path, root, c)
	}
	return out, err
}

// Load is Read for whoever has no use for warnings: it gives the configuration and the file's bytes.
func Load(path string) (*node.Config, []byte, error) {
	f, err := Read(path)
	return f.Config, f.Text, err
}

// Parse reads a configuration from YAML or JSON. file is only for messages; env looks a variable up, as os.LookupEnv
// does, and nil means that none is set. The only other thing read is the file that a token may name.
//
// What the file leaves out has its default. The error is always Errors, with every mistake that one run can find; the
// configuration is nil then. Parse never panics, and its time and memory are bounded by MaxFile and the limits in
// guard.go. It is safe for concurrent use.
func Parse(file string, data []byte, env func(string) (string, bool)) (*node.Config, error) {
	c, _, err := parse(file, data, env)
	return c, err
}

// parse is Parse with the tree of the file.
func parse(file string, data []byte, env func(string) (string, bool)) (*node.Config, *value, error) {
	r := &report{file: file}
	root := readTree(r, data)
	if root == nil {
		return nil, nil, r.err()
	}
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	c := node.Default()
	d := newDecoder(r, root, env)
	d.value(root, place{}, reflect.ValueOf(&c).Elem())
	check(r, root, &c)
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	return &c, root, nil
}
