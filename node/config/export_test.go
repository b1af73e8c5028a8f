package config

import "reflect"

// TriedKeys lists the keys that have a hint, by type, beside those that the type has.
func TriedKeys(visit func(t reflect.Type, key string, real []string)) {
	for t, keys := range triedKeys {
		for key := range keys {
			visit(t, key, keysOf(fieldsOf(t)))
		}
	}
}
