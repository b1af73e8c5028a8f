package site

import (
	"net/http"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
)

// Explanation says what one site of a route has at a path.
type Explanation struct {
	Site   string `json:"site"`
	Path   string `json:"path"`             // in the site
	Deploy string `json:"deploy,omitempty"` // id of the deploy that answers; empty if nothing is published
	Status int    `json:"status,omitempty"` // missing if the next site, or the route's origin, answers
	// what decided: file, clean URL, a line of _redirects, 404.html and so on; or why nothing answers
	Rule     string   `json:"rule"`
	Location string   `json:"location,omitempty"`
	File     string   `json:"file,omitempty"`
	Coding   string   `json:"coding,omitempty"` // of what is sent; missing for the plain form
	Codings  []string `json:"codings,omitempty"`
	Size     int64    `json:"size,omitempty"` // of what is sent, in bytes
	Type     string   `json:"type,omitempty"`
	ETag     string   `json:"etag,omitempty"`
	Keeps    string   `json:"cache_control,omitempty"`
	From     string   `json:"from,omitempty"` // memory, disk, or mesh if this node doesn't have the file yet
	Near     []string `json:"near,omitempty"` // paths that may be meant, if there is nothing at this one
}

// Explain says what the sites would answer to an exchange, in their order, up to the one that answers. The route may
// serve no sites.
func (p *Policy) Explain(x *exchange.Exchange) []Explanation {
	if p == nil {
		return nil
	}
	path, before, ok := p.path(x)
	if ok && path == "" {
		return []Explanation{{
			Site: p.parts[0].name, Path: before, Status: http.StatusTemporaryRedirect, Location: before + "/",
			Rule: "the folder that the route leads to, with its slash",
		}}
	}
	if x.Method != http.MethodGet && x.Method != http.MethodHead {
		e := Explanation{Site: p.parts[0].name, Path: path, Rule: "only GET and HEAD are for sites"}
		if !p.passesOn {
			e.Status = http.StatusMethodNotAllowed
		}
		return []Explanation{e}
	}
	if p.preview != "" {
		f, _ := p.findPreview(x, path)
		return []Explanation{p.explain(x, p.parts[0].name, path, before, &f)}
	}
	return p.explainParts(x, path, before)
}

// explainParts explains each site.
func (p *Policy) explainParts(x *exchange.Exchange, path, before string) (out []Explanation) {
	for i := range p.parts {
		part := &p.parts[i]
		var f found
		if state := part.site.State(); state.Live != nil {
			f = part.ask(state, path)
			f.deploy = state.Live
		}
		if !f.none() {
			return append(out, p.explain(x, part.name, path, before, &f))
		}
		out = append(out, p.explain(x, part.name, path, before, &f))
	}
	if f := p.find(x, path); !f.none() { // a fallback, of the last site that has something published
		for i := range out {
			if f.part == &p.parts[i] {
				near := out[i].Near
				out[i] = p.explain(x, p.parts[i].name, path, before, &f)
				out[i].Near = near
			}
		}
	}
	return out
}

// explain explains one answer.
func (p *Policy) explain(x *exchange.Exchange, name, path, before string, f *found) Explanation {
	e := Explanation{Site: name, Path: path, Status: f.Status, Rule: f.Rule}
	switch {
	case f.deploy == nil && p.preview != "":
		e.Rule, e.Status = "there is no preview of this name and id", http.StatusNotFound
		return e
	case f.deploy == nil:
		e.Rule = "nothing has been published to the site yet"
		return e
	}
	e.Deploy = f.deploy.ID.String()
	if f.none() {
		e.Rule = "nothing matches"
	}
	if f.none() || f.Status == http.StatusNotFound {
		e.Near = f.deploy.Index.Near(path)
		e.Rule += p.pageRule(x, f, path)
	}
	if f.Location != "" {
		e.Location = withQuery(within(before, f.Location), x.Query)
	}
	if f.File != nil {
		p.explainFile(x, path, f, &e)
	}
	return e
}

// pageRule says that a browser's navigation would get another answer, since people ask with curl too.
func (p *Policy) pageRule(x *exchange.Exchange, f *found, path string) string {
	if p.passesOn || navigates(x.Header) {
		return ""
	}
	page := f.deploy.Index.Fallback(path, true)
	if page.Status != http.StatusOK || page.File == nil {
		return ""
	}
	return "; a browser that navigates (Accept: text/html) gets " + page.File.Path
}

// explainFile explains the file that is sent.
func (p *Policy) explainFile(x *exchange.Exchange, path string, f *found, e *Explanation) {
	want := httpcache.AcceptedCodings(x.Header)
	there := codingsOf(f.File)
	c := want.Best(there)
	b, _ := blobOf(f.File, c)
	for i, has := range there {
		if has && codings[i] != "" {
			e.Codings = append(e.Codings, string(codings[i]))
		}
	}
	e.File, e.Coding, e.Size, e.Type = f.File.Path, string(codings[c]), b.Size, f.File.Type
	fields := p.fields(f, f.deploy.Index.Rules(f.File, path), c, f.Status)
	e.ETag, e.Keeps = fields.Get("ETag"), fields.Get("Cache-Control")
	switch file := p.room.sites.File(b); {
	case file.Bytes() != nil:
		e.From = "memory"
	case file.Here():
		e.From = "disk"
	default:
		e.From = "mesh"
	}
}
