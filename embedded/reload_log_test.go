package embedded_test

import (
	"net/http"
	"strings"
	"testing"

	"millrace/embedded/embeddedtest"
)

// A refused reload is logged once, with its reason, no matter who asked for it.
func TestRefusedReloadIsLogged(t *testing.T) {
	var out textLog
	opts, path := settings(t, edgeYAML)
	opts.Log = out.logger()
	n := open(t, opts)
	write(t, path, embeddedtest.YAML(t, `
		version: 1
		edge:
		  listen: nonsense
		`))
	resp, err := http.Post(n.AdminURL()+"/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("got %d", resp.StatusCode)
	}
	if _, err := n.Reload(t.Context()); err == nil {
		t.Error("a broken file is applied")
	}
	log := out.String()
	if got := strings.Count(log, `msg="reload refused"`) + strings.Count(log, `"msg":"reload refused"`); got != 2 ||
		!strings.Contains(log, ":3:11: edge.listen") {
		t.Errorf("%d refusals of 2 are in the log:\n%s", got, log)
	}
}
