package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/node/config"
)

// TestMistakes compares the report for every file in testdata/mistakes with its .want file; -update writes these.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil || len(files) < 45 {
		t.Fatalf("found %d files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data := read(t, file)
			c, err := config.Parse("millrace.yaml", data, environment)
			mistakes, ok := errors.AsType[config.Errors](err)
			if !ok || len(mistakes) == 0 || c != nil {
				t.Fatalf("Parse gave %v, %v", c, err)
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hush") {
				t.Errorf("a secret is in the report:\n%s", got)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", got)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(read(t, file)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func read(tb testing.TB, file string) []byte {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
