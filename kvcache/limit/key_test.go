package limit_test

import (
	"strconv"
	"strings"
	"testing"

	"millrace/kvcache/limit"
)

// A client has the same key whether it is cached or not, and no other client has it.
func TestCachedKeyIsTheSame(t *testing.T) {
	var rule limit.Rule
	seen := map[limit.Key]string{}
	for round := range 3 {
		for i := range 2000 { // more than are cached
			client := strconv.Itoa(i) + strings.Repeat("x", i%200)
			var fresh limit.Rule
			key := rule.Key([]byte(client))
			if key != fresh.Key([]byte(client)) || key != rule.Key([]byte(client)) {
				t.Fatalf("%s has two keys", client)
			}
			if other := seen[key]; round > 0 && other != client {
				t.Fatalf("%s has the key of %s", client, other)
			}
			seen[key] = client
		}
	}
	if len(seen) != 2000 {
		t.Errorf("2000 clients have %d keys", len(seen))
	}
}
