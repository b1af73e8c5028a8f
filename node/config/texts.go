package config

import (
	"reflect"

	"millrace/node"
)

const (
	durationPattern = `\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+`
	windowPattern   = `day|month|s|m|h|` + durationPattern
)

// textRule describes a type that is written as text, for messages and the schema. The pattern is what an editor can
// check while typing: it matches every valid text, and some invalid ones.
type textRule struct {
	want     string // completes "expected ..."
	pattern  string // matches the whole text; "" if enum is enough
	enum     []string
	examples []string
}

// textRules has a rule for each text type of the configuration. Schema panics without one, which its test would find.
var textRules = map[reflect.Type]textRule{
	reflect.TypeFor[node.Duration](): {
		want:     "a duration such as 10s",
		pattern:  durationPattern,
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
	reflect.TypeFor[node.HubAddress](): {
		want:     "an address such as hub.example.com:7422",
		pattern:  `(nats-leaf://)?[^ /]+:[0-9]+/?`,
		examples: []string{"hub.example.com:7422", "nats-leaf://10.0.0.1:7422"},
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
		pattern:  `/[^?#]*`,
		examples: []string{"/", "/api/*", "/users/{id}", "/café"},
	},
	reflect.TypeFor[node.Target](): {
		want:     "a target such as upstream:api",
		pattern:  `(service|upstream|site):[a-z0-9_-]{1,64}|nats:[A-Za-z0-9_.{}-]+`,
		examples: []string{"service:greet", "upstream:api", "nats:orders.get.{id}", "site:www"},
	},
	reflect.TypeFor[node.SPA](): {
		want:     "false, or a path such as /index.html",
		pattern:  `/[^?#]+`,
		examples: []string{"/index.html", "/app.html"},
	},
	reflect.TypeFor[node.Fill](): {want: "all, html or demand", enum: []string{
		string(node.FillAll), string(node.FillHTML), string(node.FillDemand),
	}},
	reflect.TypeFor[node.Slash](): {
		want: "auto, always, never or keep",
		enum: []string{
			string(node.SlashAuto), string(node.SlashAlways), string(node.SlashNever), string(node.SlashKeep),
		},
	},
	reflect.TypeFor[node.Template](): {
		want:     "a path such as /users/{id}",
		pattern:  `/[^#]*`,
		examples: []string{"/users/{id}", "/v2/{*}", "/orders?user={user.id}"},
	},
	reflect.TypeFor[node.Location](): {
		want:     "a path or URL such as https://example.com/{*}",
		pattern:  `(https?://[^/?#@]+)?(/[^#]*)?`,
		examples: []string{"/new/{*}", "https://example.com/{*}", "https://{host}/{id}"},
	},
	reflect.TypeFor[node.GatherMode](): {
		want: "settled, all, quorum, race or any",
		enum: []string{
			string(node.GatherSettled), string(node.GatherAll), string(node.GatherQuorum),
			string(node.GatherRace), string(node.GatherAny),
		},
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
	reflect.TypeFor[node.Protocol](): {
		want:     "a protocol such as spdy/3.1",
		pattern:  `[^ "(),/:;<=>?@\[\\\]{}]+(/[^ "(),/:;<=>?@\[\\\]{}]+)?`,
		examples: []string{"spdy/3.1", "tcp"},
	},
	reflect.TypeFor[node.RequestPart](): {
		want:     "a part of a request such as header:X-Version",
		pattern:  `(header|cookie):[^ "(),/:;<=>?@\[\\\]{}]+`,
		examples: []string{"header:X-Version", "cookie:session"},
	},
	reflect.TypeFor[node.Limit](): {
		want:     "a limit such as 100/15m",
		pattern:  `[0-9]+ */ *(` + windowPattern + `) *|[a-z0-9_-]{1,64}`,
		examples: []string{"100/15m", "20/s", "10000/day", "tenant"},
	},
	reflect.TypeFor[node.Window](): {
		want:     "a window such as 15m",
		pattern:  windowPattern,
		examples: []string{"1s", "15m", "24h", "day", "month"},
	},
	reflect.TypeFor[node.Zone](): {
		want:     "a time zone such as Europe/Berlin",
		pattern:  `[A-Za-z0-9_+/-]+`,
		examples: []string{"UTC", "Europe/Berlin", "America/New_York"},
	},
	reflect.TypeFor[node.LimitKey](): {
		want:     "a key of limits such as header:X-Api-Key",
		pattern:  `ip|all|(header|cookie):[^ "(),/:;<=>?@\[\\\]{}]+|param:[A-Za-z0-9_]+`,
		examples: []string{"ip", "all", "header:X-Api-Key", "cookie:session", "param:tenant"},
	},
	reflect.TypeFor[node.Algorithm](): {
		want: "fixed, sliding, bucket or concurrent",
		enum: []string{
			string(node.AlgorithmFixed), string(node.AlgorithmSliding), string(node.AlgorithmBucket),
			string(node.AlgorithmConcurrent),
		},
	},
	reflect.TypeFor[node.Align](): {
		want: "first or clock",
		enum: []string{string(node.AlignFirst), string(node.AlignClock)},
	},
	reflect.TypeFor[node.StoreAway](): {
		want: "closed, open or share",
		enum: []string{string(node.StoreAwayClosed), string(node.StoreAwayOpen), string(node.StoreAwayShare)},
	},
	reflect.TypeFor[node.LimitMode](): {
		want: "refuse or queue",
		enum: []string{string(node.LimitModeRefuse), string(node.LimitModeQueue)},
	},
	reflect.TypeFor[node.HeaderForm](): {
		want: "draft-8, draft-7, draft-6, legacy or none",
		enum: []string{
			string(node.HeaderDraft8), string(node.HeaderDraft7), string(node.HeaderDraft6), string(node.HeaderLegacy),
			string(node.HeaderNone),
		},
	},
	reflect.TypeFor[node.Offline](): {
		want: "validate or serve",
		enum: []string{string(node.OfflineValidate), string(node.OfflineServe)},
	},
	reflect.TypeFor[node.Cookies](): {
		want: "explicit, pass or strip",
		enum: []string{string(node.CookiesExplicit), string(node.CookiesPass), string(node.CookiesStrip)},
	},
	reflect.TypeFor[node.TargetLimit](): {
		want:     "a number of requests, or auto",
		pattern:  `[0-9]+|auto`,
		examples: []string{"auto", "100"},
	},
	reflect.TypeFor[node.Balance](): {
		want:     "a way to balance such as hash:header:X-User",
		pattern:  `least|hash:(ip|path|(header|cookie):[^ "(),/:;<=>?@\[\\\]{}]+)`,
		examples: []string{"least", "hash:ip", "hash:header:X-User", "hash:cookie:session"},
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
