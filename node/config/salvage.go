package config

import (
	"bytes"
	"io"
	"os"
	"reflect"

	"millrace/node"
)

// maxSalvage is how often a file is shortened until it can be read.
const maxSalvage = 8

// Salvage returns what can be read of a configuration file with mistakes. Everything else has its default, also if
// there is no file. Nothing is checked: the result is only good for finding a running node. It never panics.
func Salvage(path string) node.Config {
	f, err := os.Open(path)
	if err != nil {
		return node.Default()
	}
	data, _ := io.ReadAll(io.LimitReader(f, MaxFile)) // use what could be read
	_ = f.Close()                                     // it was only read
	return salvage(data, os.LookupEnv)
}

// salvage reads the lines before the first syntax error. Most files have the node's addresses at their start.
func salvage(data []byte, env func(string) (string, bool)) node.Config {
	c := node.Default()
	for range maxSalvage {
		r := &report{}
		if root := readTree(r, data); root != nil {
			d := newDecoder(&report{}, root, env)
			d.value(root, keyPath{}, reflect.ValueOf(&c).Elem())
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
