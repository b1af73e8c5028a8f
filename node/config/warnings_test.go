package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"millrace/node/config"
)

// TestWarnings compares the warnings for every file in testdata/warnings with its .want file.
func TestWarnings(t *testing.T) {
	files, err := filepath.Glob("testdata/warnings/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			f, err := config.Read(file)
			if err != nil || f.Config == nil || string(f.Text) != string(read(t, file)) {
				t.Fatalf("Read gave %+v, %v", f.Config, err)
			}
			var got strings.Builder
			for _, w := range f.Warnings {
				if !w.Warning {
					t.Errorf("%s isn't marked as a warning", w)
				}
				w.File = "millrace.yaml"
				got.WriteString(w.String() + "\n")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", got.String())
		})
	}
}

// TestGoodHasNoWarnings checks that the example files have no warnings.
func TestGoodHasNoWarnings(t *testing.T) {
	for name, value := range map[string]string{
		"HOST": "127.0.0.1", "NAME": "hello", "MAX": "12", "NUMBER": "10",
		"SECRET": "hush-secret-hush",
	} {
		t.Setenv(name, value)
	}
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files, error %v", len(files), err)
	}
	for _, file := range files {
		if f, err := config.Read(file); err != nil || len(f.Warnings) > 0 {
			t.Errorf("%s: %v, %v", file, f.Warnings, err)
		}
	}
}
