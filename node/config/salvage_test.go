package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"millrace/node"
	"millrace/node/config"
)

func salvage(tb testing.TB, text string) node.Config {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return config.Salvage(file)
}

// The addresses of the node can be read from a file with mistakes, whatever the rest is like.
func TestSalvage(t *testing.T) {
	const head = "version: 1\nnode: {data: ./here}\nadmin: {listen: 127.0.0.1:9}\n"
	for name, text := range map[string]string{
		"valid":             head,
		"unknown key":       head + "upstream: {}\n",
		"wrong value":       head + "edge: {timeout: 10}\n",
		"torn braces":       head + "routes: [{path: /a, to:\n",
		"several torn":      head + "a: [\nb: }\nc: \"\n\td: ][",
		"no YAML":           head + "\x00\x01",
		"first line wrong":  "version: 99\nnode: {data: ./here}\nadmin: {listen: 127.0.0.1:9}\n",
		"a second document": head + "---\na: b\n",
	} {
		if c := salvage(t, text); c.Node.Data != "./here" || c.Admin.Listen != "127.0.0.1:9" {
			t.Errorf("%s: the data is in %s, the admin API at %s", name, c.Node.Data, c.Admin.Listen)
		}
	}
	for name, c := range map[string]node.Config{
		"empty": salvage(t, ""), "garbage": salvage(t, "{{{{"),
		"no file":                            config.Salvage(filepath.Join(t.TempDir(), "none")),
		"directory":                          config.Salvage(t.TempDir()),
		"a data directory that isn't a text": salvage(t, "version: 1\nnode: {data: [a]}\n"),
	} {
		if want := node.Default(); c.Node.Data != want.Node.Data || c.Admin.Listen != want.Admin.Listen {
			t.Errorf("%s: the data is in %q, the admin API at %q, want the defaults", name, c.Node.Data, c.Admin.Listen)
		}
	}
}

// FuzzSalvage checks that no file makes Salvage panic, and that it reads a valid file like Parse.
func FuzzSalvage(f *testing.F) {
	for _, text := range []string{
		"", "version: 1\nnode: {data: ./x}\n", "a: [\nb: }", "version: 1\nnode:\n data: \"\n", "- a\n- b: {",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := salvage(t, text)
		if parsed, err := config.Parse("f", []byte(text), os.LookupEnv); err == nil && parsed.Node != c.Node {
			t.Errorf("salvaged %+v, parsed %+v", c.Node, parsed.Node)
		}
	})
}
