package config

import (
	"reflect"
	"strings"
)

// ForeignKeys returns the foreign keys by type, and the keys of the type.
func ForeignKeys(visit func(t reflect.Type, key string, have []string)) {
	for t, entries := range foreignKeys {
		for _, entry := range entries {
			for key := range strings.FieldsSeq(entry.keys) {
				visit(t, key, keysOf(fieldsOf(t)))
			}
		}
	}
}
