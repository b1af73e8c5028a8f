package config

import (
	"reflect"
	"strings"
)

// TriedKeys lists the keys that have a hint, by type, beside those that the type has.
func TriedKeys(visit func(t reflect.Type, key string, have []string)) {
	for t, entries := range triedKeys {
		for _, entry := range entries {
			for key := range strings.FieldsSeq(entry.keys) {
				visit(t, key, keysOf(fieldsOf(t)))
			}
		}
	}
}
