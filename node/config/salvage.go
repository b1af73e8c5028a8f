package config

import (
	"bytes"
	"io"
	"os"
	"reflect"

	"millrace/node"
)

// maxSalvage is how often a file is cut shorter until what is left of it can be read.
const maxSalvage = 8

// Salvage returns what can be read of a configuration file that has mistakes; what can't be has its default, and so has
// everything if there is no file. Nothing is checked, so the result is good for finding a node that runs, and for
// nothing else. It never panics.
func Salvage(path string) node.Config {
	f, err := os.Open(path)
	if err != nil {
		return node.Default()
	}
	data, _ := io.ReadAll(io.LimitReader(f, MaxFile)) // what was read is what there is
	_ = f.Close()                                     // it was only read
	return salvage(data, os.LookupEnv)
}

// salvage reads the lines before the first mistake in the syntax: what says where a node is stands at the beginning of
// most files.
func salvage(data []byte, env func(string) (string, bool)) node.Config {
	c := node.Default()
	for range maxSalvage {
		r := &report{}
		if root := readTree(r, data); root != nil {
			d := newDecoder(&report{}, root, env)
			d.value(root, place{}, reflect.ValueOf(&c).Elem())
			return c
		}
		if len(r.mistakes) == 0 {
			return c
		}
		shorter := firstLines(data, r.mistakes[0].Line-1)
		if len(shorter) == len(data) {
			return c
		}
		data = shorter
	}
	return c
}

// firstLines returns the first n lines.
func firstLines(data []byte, n int) []byte {
	at := 0
	for range n {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return data
		}
		at += i + 1
	}
	return data[:at]
}
