package memberapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/node"
	"millrace/node/config"
)

// route converts the request to a route of a configuration that has the upstreams and limits of the applied one.
// Parsing that configuration checks the request like a file.
func (r *gatherRequest) route(applied *node.Config) (*node.Route, error) {
	text, err := r.config(applied)
	if err != nil {
		return nil, errors.New("the payload isn't JSON")
	}
	cfg, err := config.Parse("", text, nil)
	if err != nil {
		return nil, errors.New(gatherMistakes(err))
	}
	if err := mayCall(cfg.Routes[0].Gather, &applied.Mesh); err != nil {
		return nil, err
	}
	return &cfg.Routes[0], nil
}

// config returns the text of a configuration whose only route is the request.
func (r *gatherRequest) config(applied *node.Config) ([]byte, error) {
	gather := map[string]json.RawMessage{"calls": r.Calls}
	for key, value := range map[string]json.RawMessage{
		"mode": r.Mode, "quorum": r.Quorum, "concurrency": r.Concurrency,
	} {
		if value != nil {
			gather[key] = value
		}
	}
	route := map[string]any{"path": "/", "name": "api-gather", "gather": gather}
	if r.Timeout != nil {
		route["timeout"] = r.Timeout
	}
	upstreams, limits := map[string]map[string]bool{}, map[string]string{}
	for name := range applied.Upstreams {
		upstreams[name] = map[string]bool{"remote": true}
	}
	for name := range applied.Limits {
		limits[name] = "1/s" // the value doesn't matter here
	}
	return json.Marshal(map[string]any{
		"version": 1, "upstreams": upstreams, "limits": limits, "routes": []any{route},
	})
}

// mayCall checks that a gather calls only what the configuration allows members: the node itself may publish to more.
func mayCall(g *node.Gather, m *node.Mesh) error {
	for _, name := range slices.Sorted(maps.Keys(g.Calls)) {
		switch to := g.Calls[name].To; {
		case to.Kind == node.KindNATS:
			return fmt.Errorf("calls.%s.to: api.gather calls services and upstreams: write service:NAME or "+
				"upstream:NAME", name)
		case to.Kind == node.KindService && len(m.MemberCalls) > 0 && !listed(m.MemberCalls, to.Name):
			return fmt.Errorf("calls.%s.to: members may not call service %q: list it in mesh.member_calls of the "+
				"configuration",
				name, to.Name)
		case to.Kind == node.KindUpstream && !listed(m.GatherUpstreams, to.Name):
			return fmt.Errorf("calls.%s.to: members may not call upstream %q: list it in mesh.gather_upstreams of the "+
				"configuration", name, to.Name)
		}
	}
	return nil
}

// gatherMistakes returns the mistakes in the terms of the request, which has no lines and isn't a route.
func gatherMistakes(err error) string {
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		return err.Error()
	}
	texts := make([]string, 0, len(mistakes))
	for _, m := range mistakes {
		texts = append(texts, strings.NewReplacer("routes[0].gather.", "", "routes[0].", "").Replace(m.Message))
	}
	return strings.Join(texts, "; ")
}
