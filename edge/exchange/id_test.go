package exchange_test

import (
	"regexp"
	"strings"
	"testing"

	"millrace/edge/exchange"
)

// An id is 32 hexadecimal digits in lower case, each of which comes in every place, and no id comes twice.
func TestIDs(t *testing.T) {
	digits := regexp.MustCompile(`^[0-9a-f]{32}$`)
	seen, at := map[string]bool{}, [32]map[byte]bool{}
	for range 2000 {
		id := exchange.NewID()
		if !digits.MatchString(id) || seen[id] {
			t.Fatalf("got %q, seen %t", id, seen[id])
		}
		seen[strings.Clone(id)] = true
		for i := range at {
			if at[i] == nil {
				at[i] = map[byte]bool{}
			}
			at[i][id[i]] = true
		}
	}
	for i := range at {
		if len(at[i]) != 16 {
			t.Errorf("place %d has %d of 16 digits", i, len(at[i]))
		}
	}
}
