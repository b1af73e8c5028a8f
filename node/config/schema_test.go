package config_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"millrace/node"
	"millrace/node/config"
)

func compileSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("millrace.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	schema, err := c.Compile("millrace.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return schema
}

func TestSchemaGolden(t *testing.T) { golden(t, "testdata/schema.json", string(config.Schema())) }

// needsWholeFile lists the mistakes that a schema can't or needn't find: those between values, those of names and
// ranges, and those of YAML itself.
var needsWholeFile = []string{
	"address_ipv6_bare", "address_port_range", "admin_open", "duplicate_upstream", "duration_zero", "expose_name",
	"mesh_prefix_alone",
	"mesh_prefix_wrong", "mesh_url", "node_name", "number_zero", "number_hex", "number_huge", "prefix_wrong",
	"route_forward_headers", "route_host", "route_headers", "route_name_twice", "route_overlap", "route_param",
	"route_path",
	"route_same", "route_target", "route_undeclared", "size_above_message", "size_out_of_range", "target_twice",
	"token_file_directory", "token_file_missing", "token_file_nameless", "token_from_environment", "token_short",
	"token_unsafe", "upstream_name", "upstream_remote_and_targets", "upstream_without_targets", "variable_structure",
	"variable_wrong_value",
	"version_float", "version_unknown", "token_unset", "variable_unset", "target_wrong", "variable_name",
	"variable_unclosed", "cluster_empty", "cluster_listen_only", "cluster_listen_standard", "cluster_peers_twice",
	"cluster_peer_unspecified",
	"cluster_store_only", "cluster_token_file", "cluster_no_name", "cluster_no_peers", "cluster_no_token",
	"cluster_open", "cluster_peer_any", "cluster_port_any", "cluster_with_url", "limits_out_of_range",
	"control_character", "not_utf8",
	"tab_in_text", "two_documents", "cache_force", "cache_methods", "cache_object", "cache_query", "cache_ttl_long",
	"limit_bucket", "limit_clock", "limit_concurrent", "limit_key_twice", "limit_many", "limit_names", "limit_one_list",
	"limit_queue", "limit_ranges",
	"limit_skip", "limit_use", "member_calls", "port_twice", "target_itself", "zero_is_none", "leaf_token",
	"leaf_url",
}

// TestSchemaRefuses checks that the schema finds mistakes of structure and type.
func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t)
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if slices.Contains(needsWholeFile, name) {
			continue
		}
		v, ok := decodable(read(t, file))
		if !ok {
			continue // not YAML, or with a repeated key
		}
		if schema.Validate(v) == nil && !strings.Contains(string(read(t, strings.TrimSuffix(file, ".yaml")+".want")),
			"not allowed") {
			t.Errorf("%s fits the schema", name)
		}
		refused++
	}
	if refused < 25 {
		t.Errorf("only %d mistakes were shown to the schema", refused)
	}
}

// TestSchemaRefusesUnknownKeys adds a key to every object of a file that has all of them.
func TestSchemaRefusesUnknownKeys(t *testing.T) {
	schema := compileSchema(t)
	root := plain(t, read(t, "testdata/good/every_key.yaml"))
	free := []string{"upstreams", "limits", "headers", "set", "add"} // users choose the names in these
	var visit func(at string, v any)
	visit = func(at string, v any) {
		if at == "fallback" || at == "body" { // these may have any value
			return
		}
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				visit(at, item)
			}
		case map[string]any:
			for key, value := range v {
				visit(key, value)
			}
			if slices.Contains(free, at) {
				return
			}
			v["surprise"] = "x"
			if schema.Validate(root) == nil {
				t.Errorf("an unknown key in %q fits the schema", at)
			}
			delete(v, "surprise")
		}
	}
	visit("", root)
	if err := schema.Validate(root); err != nil {
		t.Errorf("the file itself doesn't fit: %v", err)
	}
}

func TestSchemaDescribesEveryKey(t *testing.T) {
	var doc struct {
		Defs map[string]struct {
			Description string
			Properties  map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(config.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	for name, def := range doc.Defs {
		if def.Properties == nil && def.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for key, p := range def.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", name, key)
			}
		}
	}
}

// TestSchemaExamples checks that the schema's examples are accepted.
func TestSchemaExamples(t *testing.T) {
	var doc struct {
		Defs map[string]struct {
			Pattern  string
			Examples []string
		} `json:"$defs"`
	}
	if err := json.Unmarshal(config.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for name, def := range doc.Defs {
		for _, example := range def.Examples {
			seen++
			if !regexp.MustCompile(def.Pattern).MatchString(example) {
				t.Errorf("%s: %q doesn't match %s", name, example, def.Pattern)
			}
			if target, ok := textTypes[name]; !ok {
				t.Errorf("%s is missing in the test", name)
			} else if err := target().UnmarshalText([]byte(example)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d examples", seen)
	}
}

var textTypes = map[string]func() encoding.TextUnmarshaler{
	"Duration":    func() encoding.TextUnmarshaler { return new(node.Duration) },
	"Size":        func() encoding.TextUnmarshaler { return new(node.Size) },
	"Address":     func() encoding.TextUnmarshaler { return new(node.Address) },
	"Prefix":      func() encoding.TextUnmarshaler { return new(node.Prefix) },
	"Protocol":    func() encoding.TextUnmarshaler { return new(node.Protocol) },
	"BaseURL":     func() encoding.TextUnmarshaler { return new(node.BaseURL) },
	"Pattern":     func() encoding.TextUnmarshaler { return new(node.Pattern) },
	"Template":    func() encoding.TextUnmarshaler { return new(node.Template) },
	"Target":      func() encoding.TextUnmarshaler { return new(node.Target) },
	"Host":        func() encoding.TextUnmarshaler { return new(node.Host) },
	"LimitText":   func() encoding.TextUnmarshaler { return new(node.Limit) },
	"LimitKey":    func() encoding.TextUnmarshaler { return new(node.LimitKey) },
	"Window":      func() encoding.TextUnmarshaler { return new(node.Window) },
	"Zone":        func() encoding.TextUnmarshaler { return new(node.Zone) },
	"RequestPart": func() encoding.TextUnmarshaler { return new(node.RequestPart) },
	"Location":    func() encoding.TextUnmarshaler { return new(node.Location) },
	"TargetLimit": func() encoding.TextUnmarshaler { return new(node.TargetLimit) },
	"Balance":     func() encoding.TextUnmarshaler { return new(node.Balance) },
	"HubAddress":  func() encoding.TextUnmarshaler { return new(node.HubAddress) },
	"SPA":         func() encoding.TextUnmarshaler { return new(node.SPA) },
	"Method":      func() encoding.TextUnmarshaler { return new(node.Method) },
}
