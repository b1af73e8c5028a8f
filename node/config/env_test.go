package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/config"
)

func TestVariables(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"${NAME}", "hello"},
		{"a-${NAME}-b", "a-hello-b"},
		{"${NAME}${NAME}", "hellohello"},
		{"${UNSET:-x}", "x"},
		{"${UNSET:-}", ""},
		{"${UNSET:-a:-b}", "a:-b"},
		{"${EMPTY:-x}", "x"},
		{"${EMPTY}", ""},
		{"${NAME:-x}", "hello"},
		{"$${NAME}", "${NAME}"},
		{"$$${NAME}", "$${NAME}"},
		{"$NAME $ {NAME} }", "$NAME $ {NAME} }"},
		{"${LITERAL}", "${NAME}"}, // values of variables aren't expanded again
		{"${UNSET:-$}{NAME}", "${NAME}"},
	} {
		env := func(name string) (string, bool) {
			if name == "LITERAL" {
				return "${NAME}", true
			}
			return environment(name)
		}
		data := "version: 1\nroutes: [{path: /, to: 'service:a', match: {headers: {X: '" + tc.text + "'}}}]\n"
		c, err := config.Parse("f", []byte(data), env)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if got := c.Routes[0].Match.Headers["X"]; got != tc.want {
			t.Errorf("%s became %q, want %q", tc.text, got, tc.want)
		}
		roundTrip(t, c)
	}
}

func TestVariableThatIsNoText(t *testing.T) {
	_, err := config.Parse("f", []byte("version: 1\nnode: {data: '${X}'}\n"), func(string) (string, bool) {
		return "\xff", true
	})
	if err == nil || !strings.Contains(err.Error(), "variable X is not UTF-8") {
		t.Errorf("got %v", err)
	}
}

func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "version: 1\nmesh: {token: 'file:" + path + "'}\n"
	}
	c, err := config.Parse("f", []byte(write("good", "\n 0123456789abcdef \r\n")), nil)
	if err != nil || c.Mesh.Token != "0123456789abcdef" {
		t.Errorf("got %v, %v", c, err)
	}
	cluster := strings.Replace(write("good", "0123456789abcdef"), "mesh: {token",
		"mesh: {token: abcdefghijklmnop, cluster: {name: c, listen: '10.0.0.1:6222', peers: ['10.0.0.1:6222'], token",
		1)
	c, err = config.Parse("f", []byte(strings.TrimSpace(cluster)+"}\n"), nil)
	if err != nil || c.Mesh.Cluster.Token != "0123456789abcdef" {
		t.Errorf("mesh.cluster.token: got %v, %v", c, err)
	}
	for name, tc := range map[string]struct{ content, want string }{
		"blank":  {" \n", "is empty"},
		"long":   {strings.Repeat("x", 5000), "more than 4096 bytes"},
		"binary": {"\xff\xfe 0123456789abcdef", "not UTF-8"},
		"short":  {"hush", "token has 4 characters"},
	} {
		_, err := config.Parse("f", []byte(write(name, tc.content)), nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestOnlyTokensAreReadFromFiles checks that only tokens are read from files.
func TestOnlyTokensAreReadFromFiles(t *testing.T) {
	c, err := config.Parse("f", []byte("version: 1\nnode: {data: 'file:/etc/hostname'}\n"), nil)
	if err != nil || c.Node.Data != "file:/etc/hostname" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("MILLRACE_TEST_NAME", "n7")
	file := filepath.Join(t.TempDir(), "millrace.yaml")
	content := "version: 1\nnode: {name: '${MILLRACE_TEST_NAME}'}\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, data, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := node.Default()
	want.Node.Name = "n7"
	if !reflect.DeepEqual(*c, want) || string(data) != content {
		t.Errorf("got %+v and %q", c, data)
	}
	if _, _, err := config.Load(file + ".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}
