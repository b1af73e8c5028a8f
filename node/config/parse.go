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

// Load reads and parses a configuration file, with the variables of the process's environment. It gives the file's
// bytes too, for whoever keeps the last good configuration; they are as they were read, variables not yet replaced.
//
// The error is Errors when the file could be read, and wraps the *os.PathError when it couldn't.
func Load(path string) (*node.Config, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	_ = f.Close() // it was only read
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(path, data, os.LookupEnv)
	return c, data, err
}

// Parse reads a configuration from YAML or JSON. file is only for messages; env looks a variable up, as os.LookupEnv
// does, and nil means that none is set. The only other thing read is the file that a token may name.
//
// What the file leaves out has its default. The error is always Errors, with every mistake that one run can find; the
// configuration is nil then. Parse never panics, and its time and memory are bounded by MaxFile and the limits in
// guard.go. It is safe for concurrent use.
func Parse(file string, data []byte, env func(string) (string, bool)) (*node.Config, error) {
	r := &report{file: file}
	root := readTree(r, data)
	if root == nil {
		return nil, r.err()
	}
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	c := node.Default()
	d := &decoder{report: r, env: env}
	d.value(root, place{}, reflect.ValueOf(&c).Elem())
	check(r, root, &c)
	if err := r.err(); err != nil {
		return nil, err
	}
	return &c, nil
}
