package config_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"millrace/node"
	"millrace/node/config"
)

// TestGood checks that the files in testdata/good parse, match the schema, and are written and read back unchanged.
func TestGood(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files, error %v", len(files), err)
	}
	schema := compileSchema(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data := read(t, file)
			c, err := config.Parse(file, data, environment)
			if err != nil {
				t.Fatal(err)
			}
			if !urlInList.Match(data) {
				if err := schema.Validate(plain(t, data)); err != nil {
					t.Errorf("the schema refuses it: %v", err)
				}
			}
			written := roundTrip(t, c)
			if err := schema.Validate(plain(t, written)); err != nil {
				t.Errorf("the schema refuses what Marshal wrote: %v\n%s", err, written)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".written", string(written))
		})
	}
}

// roundTrip returns the output of Marshal, after checking that it is read back as an equal configuration.
func roundTrip(t *testing.T, c *node.Config) []byte {
	t.Helper()
	written, err := config.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse("written", written, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, written)
	}
	if !reflect.DeepEqual(c, again) {
		t.Fatalf("read %+v\nback %+v\nfrom\n%s", c, again, written)
	}
	return written
}

// urlInList matches what goccy/go-yaml alone reads as a mapping inside { } (see repair.go), so that plain can't convert
// it for the schema.
var urlInList = regexp.MustCompile(`\{targets: \[http:`)

// plain decodes YAML or JSON to the types that a JSON Schema validator expects.
func plain(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDefaultsOfNestedTypes(t *testing.T) {
	c, err := config.Parse("f", []byte(`
version: 1
upstreams:
  api:
    targets: [http://127.0.0.1:3000]
    max_requests: 5
    health: {path: /up}
routes:
  - {path: /, to: upstream:api}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := node.Default()
	var u node.Upstream
	u.Defaults()
	u.MaxRequests = 5
	u.Targets = []node.UpstreamTarget{{URL: "http://127.0.0.1:3000", Weight: 1}}
	u.Health = &node.Health{
		Path: "/up", Interval: node.Duration(2 * time.Second), Timeout: node.Duration(time.Second), Fails: 2, Passes: 1,
	}
	want.Upstreams = map[string]node.Upstream{"api": u}
	path, err := node.ParsePattern("/")
	if err != nil {
		t.Fatal(err)
	}
	want.Routes = []node.Route{{
		Path: path, To: node.Target{Kind: node.KindUpstream, Name: "api"}, EncodedSlash: node.EncodedSlashRefuse,
		OnDisconnect: node.OnDisconnectCancel,
	}}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got  %+v\nwant %+v", *c, want)
	}
}

func TestMarshalDefault(t *testing.T) {
	c := node.Default()
	if got := string(roundTrip(t, &c)); got != "version: 1\n" {
		t.Errorf("the defaults are written as %q", got)
	}
}

func TestMarshalRefusesBytes(t *testing.T) {
	c := node.Default()
	c.Node.Data = "a\xffb"
	if data, err := config.Marshal(&c); err == nil {
		t.Errorf("written as %q", data)
	}
}

func TestLists(t *testing.T) {
	// An empty list is the same as none, so that a configuration has one form.
	c, err := config.Parse("f", []byte("version: 1\nedge: {expose: []}\nupstreams: {}\nroutes: []\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := node.Default(); !reflect.DeepEqual(*c, want) {
		t.Errorf("got %+v", *c)
	}
}
