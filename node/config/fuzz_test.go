package config_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"millrace/node/config"
)

// FuzzParse checks that no file makes Parse panic, that mistakes have positions inside the file, and that an accepted
// file is written and read back as an equal configuration.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/mistakes/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("found %d files, error %v", len(files), err)
		}
		for _, file := range files {
			f.Add(read(f, file))
		}
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f", data, environment)
		if err == nil {
			written := roundTrip(t, c)
			if err := schema.Validate(plain(t, written)); err != nil {
				t.Errorf("the schema refuses what Marshal wrote: %v\n%s", err, written)
			}
			return
		}
		mistakes, ok := errors.AsType[config.Errors](err)
		if !ok || c != nil {
			t.Fatalf("Parse gave %v, %v", c, err)
		}
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 1
		for _, m := range mistakes {
			if m.Line < 1 || m.Line > lines || m.Col < 1 || m.Message == "" || strings.Contains(m.Message, "\n") {
				t.Errorf("%+v in a file of %d lines", m, lines)
			}
		}
	})
}

// TestParseIsBounded parses files that are as large and deep as allowed, or more.
func TestParseIsBounded(t *testing.T) {
	for name, unit := range map[string]string{
		"lists": "[", "mappings": "{a: ", "dashes": "- ", "keys": "a: ", "questions": "? ", "tags": "! ",
		"anchors": "&a ",
		"aliases": "*a ", "quotes": "'", "lines": "a:\n", "pairs": "a: 1\n", "items": "- a: 1\n", "empty": "[],",
		"escapes": "\"\\",
		"braces":  "${", "levels": "a:\n ",
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte("version: 1\nx: " + strings.Repeat(unit, config.MaxFile/4/len(unit)))
			for _, d := range [][]byte{data, data[len("version: 1\nx: "):]} {
				start := time.Now()
				_, err := config.Parse("f", d, nil)
				if err == nil {
					t.Error("accepted")
				} else if len(err.Error()) > config.MaxFile {
					t.Errorf("the report has %d bytes", len(err.Error()))
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("took %s", took)
				}
			}
		})
	}
}

func TestTooBigFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(file, make([]byte, config.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, data, err := config.Load(file)
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") || len(data) != config.MaxFile+1 {
		t.Errorf("Load gave %d bytes and %v", len(data), err)
	}
}

// decodable returns what another YAML parser reads from a file, if it accepts it.
func decodable(data []byte) (any, bool) {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil || v == nil || reflect.ValueOf(v).Kind() != reflect.Map {
		return nil, false
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		return nil, false
	}
	v, err = jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	return v, err == nil
}
