package limit_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"millrace/kvcache/limit"
)

// The table behaves like a map under any operations. The input's bytes are operations and their keys.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 1, 1, 2, 0})
	long := make([]byte, 4000)
	for seed := range uint64(4) {
		random := rand.NewChaCha8([32]byte{byte(seed)})
		random.Read(long)
		f.Add(long)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		table, model := limit.NewEntries(), map[limit.Key]int64{}
		for i := 0; i+1 < len(ops); i += 2 {
			var key limit.Key
			binary.LittleEndian.PutUint64(key[8:], uint64(ops[i+1]))
			switch ops[i] % 16 {
			case 0, 1, 2, 3, 4, 5, 6, 7, 8:
				table.Set(key, int64(i))
				model[key] = int64(i)
			case 9, 10, 11, 12, 13:
				table.Drop(key)
				delete(model, key)
			case 14:
				ends := int64(i - int(ops[i+1]))
				table.DropUntil(ends)
				for key, until := range model {
					if until <= ends {
						delete(model, key)
					}
				}
			case 15:
				if _, found := model[key]; len(model) > 0 && found {
					if _, found := model[table.Sample()]; !found {
						t.Fatal("a key that isn't there")
					}
				}
			}
			if n, cells := table.Size(); n != len(model) || n > cells*4/5 {
				t.Fatalf("%d keys in %d cells, want %d", n, cells, len(model))
			}
		}
		for i := range uint64(256) {
			var key limit.Key
			binary.LittleEndian.PutUint64(key[8:], i)
			until, found := table.Get(key)
			if want, wanted := model[key]; until != want || found != wanted {
				t.Errorf("key %d is %d, %t, want %d, %t", i, until, found, want, wanted)
			}
		}
	})
}

// The table shrinks when its keys are dropped.
func TestEntriesShrink(t *testing.T) {
	t.Parallel()
	table := limit.NewEntries()
	for i := range uint64(100_000) {
		var key limit.Key
		binary.LittleEndian.PutUint64(key[:], i)
		table.Set(key, int64(i))
	}
	table.DropUntil(99_989)
	if n, cells := table.Size(); n != 10 || cells > 100 {
		t.Errorf("%d keys in %d cells, want 10 in a few", n, cells)
	}
}
