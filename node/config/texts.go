package config

import (
	"reflect"

	"millrace/node"
)

// textRule describes a type that is written as text, for messages and for the schema. The pattern is what an editor can
// check while typing: it accepts all that the type does, and a bit more.
type textRule struct {
	want     string // completes "expected ..."
	pattern  string // of the whole text; "" if enum says it all
	enum     []string
	examples []string
}

// texts has a rule for each text type of the configuration; Schema panics without, which its test would show.
var texts = map[reflect.Type]textRule{
	reflect.TypeFor[node.Duration](): {
		want:     "a duration such as 10s",
		pattern:  `\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+`,
		examples: []string{"300ms", "10s", "15m", "1h"},
	},
	reflect.TypeFor[node.Size](): {
		want:     "a size such as 512KiB",
		pattern:  `\s*\+?[0-9]+\s*([Bb]|[KkMmGg]([Ii]?[Bb])?)\s*`,
		examples: []string{"900B", "512KiB", "1MiB"},
	},
	reflect.TypeFor[node.Address](): {
		want:     "an address such as 127.0.0.1:8080",
		pattern:  `[^ /]*:[0-9]+`,
		examples: []string{"127.0.0.1:8080", ":8080", "[::1]:8080"},
	},
	reflect.TypeFor[node.Prefix](): {
		want:     "an address range such as 10.0.0.0/8",
		pattern:  `[0-9A-Fa-f:.]+(%[^/]+)?(/[0-9]+)?`,
		examples: []string{"10.0.0.0/8", "10.1.2.3", "::1"},
	},
	reflect.TypeFor[node.BaseURL](): {
		want:     "a base URL such as http://127.0.0.1:3000",
		pattern:  `[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+/?`,
		examples: []string{"http://127.0.0.1:3000", "https://api.example.com"},
	},
	reflect.TypeFor[node.Pattern](): {
		want:     "a path such as /api/*",
		pattern:  `/[^ ?#%]*`,
		examples: []string{"/", "/api/*", "/users/{id}"},
	},
	reflect.TypeFor[node.Target](): {
		want:     "a target such as upstream:api",
		pattern:  `(service|upstream):[a-z0-9_-]{1,64}|nats:[A-Za-z0-9_.{}-]+`,
		examples: []string{"service:greet", "upstream:api", "nats:orders.get.{id}"},
	},
	reflect.TypeFor[node.Host](): {
		want:     "a host name such as api.example.com",
		pattern:  `[A-Za-z0-9._:\[\]-]{1,253}`,
		examples: []string{"api.example.com", "[::1]"},
	},
	reflect.TypeFor[node.Method](): {
		want:     "a method such as GET",
		pattern:  `[A-Z-]+`,
		examples: []string{"GET", "POST"},
	},
	reflect.TypeFor[node.Local](): {
		want: "auto, nearest or nats",
		enum: []string{string(node.LocalAuto), string(node.LocalNearest), string(node.LocalNATS)},
	},
	reflect.TypeFor[node.EncodedSlash](): {
		want: "refuse or keep",
		enum: []string{string(node.EncodedSlashRefuse), string(node.EncodedSlashKeep)},
	},
	reflect.TypeFor[node.OnDisconnect](): {
		want: "cancel or finish",
		enum: []string{string(node.OnDisconnectCancel), string(node.OnDisconnectFinish)},
	},
}
