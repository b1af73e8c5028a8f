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
	Warnings []Mistake    // what is valid but probably a mistake, in order; Warning is set in each
}

// Read reads and parses a configuration file, with the variables of the process's environment.
//
// If the file could be read but isn't valid, the error is Errors, and Text is set. Otherwise the error wraps the
// *os.PathError.
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

// Load is Read without warnings: it returns the configuration and the file's bytes.
func Load(path string) (*node.Config, []byte, error) {
	f, err := Read(path)
	return f.Config, f.Text, err
}

// Parse parses a configuration in YAML or JSON. file is only used in messages. env looks up a variable like
// os.LookupEnv; nil means that none is set. Besides data it reads only files named as tokens.
//
// Keys that are left out have their defaults. The error is always Errors, with every mistake that one run can find; the
// configuration is nil then. Parse never panics, and its time and memory are bounded by MaxFile and the limits in
// tokens.go. It is safe for concurrent use.
func Parse(file string, data []byte, env func(string) (string, bool)) (*node.Config, error) {
	c, _, err := parse(file, data, env)
	return c, err
}

// parse is Parse, and also returns the tree of the file.
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
	d.value(root, keyPath{}, reflect.ValueOf(&c).Elem())
	check(r, root, &c)
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	return &c, root, nil
}
