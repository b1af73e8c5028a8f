package embedded

import (
	"log/slog"
	"reflect"
	"testing"

	"millrace/node"
)

// All parts exist and have their references to other parts. A missing one would otherwise be noticed only when it is
// used.
func TestPartsAreWired(t *testing.T) {
	cfg := node.Default()
	cfg.Node.Data = t.TempDir()
	n, err := New(Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	given := map[reflect.Type]bool{
		reflect.TypeFor[*Options](): true, reflect.TypeFor[*node.Config](): true, reflect.TypeFor[*slog.Logger](): true,
		reflect.TypeOf(n.logs.Secrets()): true,
	}
	all := []reflect.Value{reflect.ValueOf(n.parts)}
	for _, page := range []any{n.admin.Status, n.admin.Routes, n.admin.Metrics, n.admin.Purges, n.admin.Tail} {
		all = append(all, reflect.ValueOf(page))
	}
	for _, field := range reflect.ValueOf(n.parts).Elem().Fields() {
		given[field.Type()] = true
		all = append(all, field)
	}
	for _, p := range all {
		if p.IsNil() {
			t.Errorf("there is no %s", p.Type())
			continue
		}
		for field, value := range p.Elem().Fields() {
			if given[field.Type] && value.IsNil() {
				t.Errorf("%s isn't given its %s", p.Type(), field.Name)
			}
		}
	}
}
