package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// substitute replaces ${NAME} and ${NAME:-default} in a text once: values of variables aren't expanded again. As in a
// shell, the default also replaces an empty variable. $${ is a literal ${. The error contains the variable's name and
// never a value. used reports whether there was a variable.
func substitute(text string, env func(string) (string, bool)) (result string, used bool, err error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), used, nil
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(literal + "${")
			text = rest
			continue
		}
		expression, rest, found := strings.Cut(rest, "}")
		if !found {
			return "", used, errors.New(
				"a variable has no }: write ${NAME} or ${NAME:-default}, and $${ for a literal ${")
		}
		value, err := lookUp(expression, env)
		if err != nil {
			return "", used, err
		}
		b.WriteString(before + value)
		text, used = rest, true
	}
}

// lookUp returns the value of NAME or NAME:-default.
func lookUp(expression string, env func(string) (string, bool)) (string, error) {
	name, standIn, hasDefault := strings.Cut(expression, ":-")
	if !variableName.MatchString(name) {
		return "", errors.New("${...} doesn't name a variable: write ${NAME} or ${NAME:-default}, and $${ for a " +
			"literal ${")
	}
	value, set := env(name)
	switch {
	case hasDefault && value == "":
		return standIn, nil
	case !set:
		return "", fmt.Errorf("environment variable %s is not set: set it, or give a default as in ${%s:-default}",
			name, name)
	case !utf8.ValidString(value):
		return "", fmt.Errorf("environment variable %s is not UTF-8 text", name)
	}
	return value, nil
}

// escape is the inverse of substitute.
func escape(text string) string { return strings.ReplaceAll(text, "${", "$${") }

// isSecret reports whether a value may be in a separate file and must not be in messages.
func isSecret(at keyPath) bool {
	if len(at.path) == 3 && at.path[0] == "sites" && at.path[2] == "token" {
		return true
	}
	return slices.Contains([]string{
		"admin.token", "mesh.token", "mesh.cluster.token", "mesh.leaf.token", "mesh.leafs.token",
	}, at.name)
}

// maxSecret is the maximal size of a secret's file, in bytes.
const maxSecret = 4 << 10

// readSecret returns the text, or for file:PATH the contents of that file without surrounding whitespace. The path is
// relative to the working directory, like node.data.
func readSecret(text string) (string, error) {
	path, isFile := strings.CutPrefix(text, "file:")
	if !isFile {
		return text, nil
	}
	if path == "" {
		return "", errors.New("file: names no file: write file:/path/to/token")
	}
	data, err := readRegular(path)
	secret := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", fmt.Errorf("can't read %q: %w; check that the file exists and that the node's user may read it",
			path, err)
	case secret == "":
		return "", fmt.Errorf("file %q is empty: write the token into it", path)
	case len(data) > maxSecret:
		return "", fmt.Errorf("file %q has more than %d bytes: it must hold the token and nothing else", path,
			maxSecret)
	case !utf8.ValidString(secret):
		return "", fmt.Errorf("file %q is not UTF-8 text", path)
	}
	return secret, nil
}

// readRegular reads the start of a regular file. Devices and pipes are refused, since they could block for ever.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret+1))
}

// reason removes the path from an error, since the message contains it already.
func reason(err error) error {
	if pathError, ok := errors.AsType[*os.PathError](err); ok {
		return pathError.Err
	}
	return err
}
