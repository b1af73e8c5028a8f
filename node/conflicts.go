package node

import (
	"slices"
	"strconv"
	"strings"
)

// maxConflicts is how many pairs are reported: ten thousand routes with one path have fifty million.
const maxConflicts = 1000

// conflicts reports routes that match the same request without one being more specific, each with all routes before it.
func (v *validator) conflicts() {
	index, reported := newRouteIndex(v.config.Routes), 0
	for i := range v.config.Routes {
		for _, j := range index.add(i) {
			if reported++; reported > maxConflicts {
				return
			}
			v.conflict(i, j)
		}
	}
}

func (v *validator) conflict(i, j int) {
	r, s := v.config.Routes[i], v.config.Routes[j]
	message := "route %s matches the same requests as routes[%d]"
	args := []any{r.Path, j}
	if r.Compare(s) == Overlap {
		message = "route %s and routes[%d] (%s) match some of the same requests and neither is more specific: make " +
			"one of them narrower"
		args = append(args, s.Path)
	}
	v.report([]string{"routes", strconv.Itoa(i), "path"}, message, args...)
	v.problems[len(v.problems)-1].Other = []string{"routes", strconv.Itoa(j)}
}

// routeIndex finds the routes that conflict with another one without comparing it to each. It skips whole groups of
// routes: those whose path has no request in common with it, or is more or less specific. Each host and method has its
// own tree of paths, since routes that differ in these never conflict. A route is in the trees of all its methods.
type routeIndex struct {
	routes  []Route
	demands []demands
	trees   map[Host]map[Method]*pathNode // the method is empty for routes that match any
}

func newRouteIndex(routes []Route) *routeIndex {
	return &routeIndex{routes: routes, demands: make([]demands, len(routes)), trees: map[Host]map[Method]*pathNode{}}
}

// add adds the i-th route and returns the earlier routes that are Equal to it or Overlap with it, in order. A route
// whose demands contradict each other is left out; that is reported elsewhere.
func (x *routeIndex) add(i int) []int {
	r := &x.routes[i]
	d, ok := demandsOf(r)
	if !ok {
		return nil
	}
	x.demands[i] = d
	trees := x.trees[r.Host]
	if trees == nil {
		trees = map[Method]*pathNode{}
		x.trees[r.Host] = trees
	}
	found := x.search(i, trees)
	for _, m := range d.methods {
		if trees[m] == nil {
			trees[m] = new(pathNode)
		}
		trees[m].add(x, 0, i)
	}
	return slices.DeleteFunc(found, func(j int) bool {
		rel := r.Compare(x.routes[j])
		return rel != Equal && rel != Overlap
	})
}

// search returns the routes that may conflict with the i-th, in order.
func (x *routeIndex) search(i int, trees map[Method]*pathNode) []int {
	r, d := &x.routes[i], &x.demands[i]
	s := search{index: x, route: r, demands: d, lastParam: r.Path.lastParam()}
	for method, root := range trees {
		if method == "" || d.methods[0] == "" || slices.Contains(d.methods, method) {
			s.walk(root, 0, Equal)
		}
	}
	slices.Sort(s.found)
	return slices.Compact(s.found)
}

// lastParam returns the index of the last parameter; -1 if there is none; the number of segments if the pattern ends in
// /*.
func (p Pattern) lastParam() int {
	if p.Rest {
		return len(p.Segments)
	}
	last := -1
	for i, s := range p.Segments {
		if s.Param != "" {
			last = i
		}
	}
	return last
}

// pathNode is a node of a tree of paths, one level per segment.
type pathNode struct {
	literals map[string]*pathNode
	wider    []*pathNode // the wide ones among literals; never the empty segment, which no parameter matches
	param    *pathNode
	exact    demandGroups // routes that end here
	rest     demandGroups // routes that end here in /*
	wide     bool         // there is a parameter or /* here or below
}

// add adds the i-th route below p, which its first depth segments lead to.
func (p *pathNode) add(x *routeIndex, depth, i int) {
	path := &x.routes[i].Path
	switch {
	case depth == len(path.Segments) && path.Rest:
		p.rest.add(x, i)
		p.wide = true
	case depth == len(path.Segments):
		p.exact.add(x, i)
	case path.Segments[depth].Param != "":
		if p.param == nil {
			p.param = new(pathNode)
		}
		p.param.add(x, depth+1, i)
		p.wide = true
	default:
		p.addLiteral(x, path.Segments[depth].Literal, depth, i)
	}
}

func (p *pathNode) addLiteral(x *routeIndex, literal string, depth, i int) {
	child := p.literals[literal]
	if child == nil {
		child = new(pathNode)
		if p.literals == nil {
			p.literals = map[string]*pathNode{}
		}
		p.literals[literal] = child
	}
	before := child.wide
	child.add(x, depth+1, i)
	if child.wide && !before && literal != "" {
		p.wider = append(p.wider, child)
	}
	p.wide = p.wide || child.wide
}

// search collects the routes whose path is Equal to that of one route, or Overlaps with it.
type search struct {
	index     *routeIndex
	route     *Route
	demands   *demands
	lastParam int // up to this segment the route's path may be wider than another
	found     []int
}

// walk searches below p. rel relates the route's segments so far to those that lead to p.
func (s *search) walk(p *pathNode, depth int, rel Relation) {
	segments := s.route.Path.Segments
	if depth == len(segments) {
		s.end(p, rel)
		return
	}
	s.take(p.rest, rel.and(Narrower))
	seg := segments[depth]
	if seg.Param == "" {
		s.below(p.literals[seg.Literal], depth+1, rel)
		if seg.Literal != "" {
			s.below(p.param, depth+1, rel.and(Narrower))
		}
		return
	}
	s.below(p.param, depth+1, rel)
	if rel.and(Wider) == Wider { // what isn't wide stays narrower and needn't be looked at
		for _, child := range p.wider {
			s.below(child, depth+1, Wider)
		}
		return
	}
	for literal, child := range p.literals {
		if literal != "" {
			s.below(child, depth+1, Overlap)
		}
	}
}

// below continues at p, unless one of the two paths is more specific whatever follows.
func (s *search) below(p *pathNode, depth int, rel Relation) {
	if p == nil || (rel == Narrower && depth > s.lastParam) || (rel == Wider && !p.wide) {
		return
	}
	s.walk(p, depth, rel)
}

// end handles the end of the route's segments.
func (s *search) end(p *pathNode, rel Relation) {
	if !s.route.Path.Rest {
		s.take(p.exact, rel)
		s.take(p.rest, rel.and(Narrower))
		return
	}
	s.take(p.rest, rel)
	s.take(p.exact, rel.and(Wider))
	if rel.and(Wider) == Overlap {
		s.all(p)
	}
}

// all collects everything below p.
func (s *search) all(p *pathNode) {
	children := make([]*pathNode, 0, len(p.literals)+1)
	for _, child := range p.literals {
		children = append(children, child)
	}
	if p.param != nil {
		children = append(children, p.param)
	}
	for _, child := range children {
		s.take(child.exact, Overlap)
		s.take(child.rest, Overlap)
		s.all(child)
	}
}

func (s *search) take(groups demandGroups, rel Relation) {
	if rel != Equal && rel != Overlap {
		return
	}
	for _, group := range groups {
		s.found = append(s.found, group.agreeing(s.index, s.demands)...)
	}
}

// demands are a route's conditions besides host and path.
type demands struct {
	methods []Method // with the HEAD that GET includes; one empty method for any
	names   []string // of header fields, in lower case and sorted
	values  []string // of the fields in names
	key     string   // all names, as one text
	full    string   // all values, as one text
}

// demandsOf returns a route's demands. It reports whether they can be met: two spellings of one field name can't.
func demandsOf(r *Route) (demands, bool) {
	d := demands{methods: methodSet(r.Methods)}
	if len(d.methods) == 0 {
		d.methods = []Method{""}
	}
	if len(r.Match.Headers) == 0 {
		return d, true
	}
	for name := range r.Match.Headers {
		d.names = append(d.names, strings.ToLower(name))
	}
	slices.Sort(d.names)
	if len(slices.Compact(slices.Clone(d.names))) < len(d.names) {
		return demands{}, false
	}
	d.values = make([]string, len(d.names))
	for name, value := range r.Match.Headers {
		i, _ := slices.BinarySearch(d.names, strings.ToLower(name))
		d.values[i] = value
	}
	d.key, d.full = strings.Join(d.names, "\n"), d.of(d.names)
	return d, true
}

// of returns the values of some of the names as one text.
func (d *demands) of(names []string) string {
	var b strings.Builder
	for _, name := range names {
		i, _ := slices.BinarySearch(d.names, name)
		b.WriteString(strconv.Itoa(len(d.values[i])) + ":" + d.values[i])
	}
	return b.String()
}

// demandGroups holds the routes of one pathNode, grouped by the names of the header fields that they demand.
type demandGroups []*demandGroup

// demandGroup holds routes that demand the same header fields. Two routes can match one request only if they agree on
// the fields that both demand. full finds routes by all of the group's values; by finds them by the values of some
// names, and is built when it is needed.
type demandGroup struct {
	key    string
	names  []string
	routes []int
	full   map[string][]int
	by     map[string]*demandValues
}

// demandValues finds routes by the values of some names.
type demandValues struct {
	names  []string
	routes map[string][]int
}

func (g *demandGroups) add(x *routeIndex, i int) {
	d := &x.demands[i]
	at := slices.IndexFunc(*g, func(group *demandGroup) bool { return group.key == d.key })
	if at < 0 {
		at = len(*g)
		*g = append(*g, &demandGroup{key: d.key, names: d.names})
	}
	group := (*g)[at]
	group.routes = append(group.routes, i)
	if d.key == "" {
		return
	}
	if group.full == nil {
		group.full = map[string][]int{}
	}
	group.full[d.full] = append(group.full[d.full], i)
	for _, values := range group.by {
		values.add(x, i)
	}
}

func (v *demandValues) add(x *routeIndex, i int) {
	key := x.demands[i].of(v.names)
	v.routes[key] = append(v.routes[key], i)
}

// agreeing returns the routes of a group that don't demand another value of a field than d.
func (g *demandGroup) agreeing(x *routeIndex, d *demands) []int {
	switch {
	case g.key == "" || d.key == "":
		return g.routes
	case g.key == d.key:
		return g.full[d.full]
	}
	var common []string
	for _, name := range g.names {
		if _, ok := slices.BinarySearch(d.names, name); ok {
			common = append(common, name)
		}
	}
	if len(common) == 0 {
		return g.routes
	}
	key := strings.Join(common, "\n")
	values := g.by[key]
	if values == nil {
		values = &demandValues{names: common, routes: map[string][]int{}}
		for _, i := range g.routes {
			values.add(x, i)
		}
		if g.by == nil {
			g.by = map[string]*demandValues{}
		}
		g.by[key] = values
	}
	return values.routes[d.of(common)]
}
