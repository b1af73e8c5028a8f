package deploy_test

import (
	"testing"

	"millrace/kvcache/deploy"
)

// FuzzRecord reads keys and records of the bucket that anybody may have written.
func FuzzRecord(f *testing.F) {
	id := "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	f.Add("www.live", []byte(`{"v":1,"id":"`+id+`","at":"2026-01-01T00:00:00Z","why":"publish","floor":3}`))
	f.Add("www.d."+id, []byte(`{"v":1,"manifest":{"digest":"`+id+`","size":5},"files":1,"bytes":5}`))
	f.Add("www.p.pr-7", []byte(`{"v":1,"id":"`+id+`","until":"2026-01-01T00:00:00Z"}`))
	f.Add("www.later.x", []byte(`{"v":2}`))
	f.Add("=keeper", []byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		again, ok := deploy.ApplyRecord(key, value)
		if ok && again != key {
			t.Errorf("%q is read as %q", key, again)
		}
	})
}
