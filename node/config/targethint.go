package config

import (
	"fmt"
	"reflect"
	"strings"

	"millrace/node"
)

// targetHint returns an error that says what a bare name in place of a target may mean, depending on the upstreams of
// the file. It returns nil if the text isn't a name, and for other types.
func (d *decoder) targetHint(t reflect.Type, text string) error {
	if t != reflect.TypeFor[node.Target]() || !node.ValidName(text) || strings.Trim(text, "0123456789") == "" {
		return nil
	}
	if d.root.child("sites") != nil && d.root.child("sites").value.child(text) != nil {
		return fmt.Errorf("%q is not a target: write site:%[1]s for the site of that name", text)
	}
	known, exact := d.upstreams(text)
	nearest := node.Nearest(text, known)
	switch {
	case exact:
		return fmt.Errorf("%q is not a target: write upstream:%[1]s for the upstream of that name", text)
	case nearest != "":
		return fmt.Errorf("%q is not a target: write upstream:%s if that upstream is meant, or service:%[1]s for "+
			"whoever subscribes to http.%[1]s", text, nearest)
	case len(known) > 0:
		return fmt.Errorf("%q is not a target: write service:%[1]s for whoever subscribes to http.%[1]s, or "+
			"upstream:NAME for one of upstreams (%s)", text, firstFew(known))
	}
	return fmt.Errorf("%q is not a target: write service:%[1]s for whoever subscribes to http.%[1]s, or declare "+
		"upstreams: {%[1]s: {targets: [http://127.0.0.1:3000]}} and write upstream:%[1]s", text)
}

// upstreams returns the upstreams that the file declares, limited to a number that people may have, and whether name is
// among all of them.
func (d *decoder) upstreams(name string) (names []string, has bool) {
	const most = 100
	at := d.root.child("upstreams")
	if at == nil {
		return nil, false
	}
	for _, e := range at.value.entries[:min(len(at.value.entries), most)] {
		names = append(names, e.key)
	}
	return names, at.value.child(name) != nil
}

// firstFew returns the first few names as a text.
func firstFew(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " ..."
	}
	return strings.Join(names, ", ")
}
