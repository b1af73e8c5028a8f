package embedded

import (
	"context"
	"sync/atomic"

	"millrace/edge/admin"
	"millrace/node"
)

// parts are the components of a node. This file has the whole wiring: what each part gets of the others, the order in
// which they open, and what each does on shutdown and reload, and for status.
//
// The edge serves requests as soon as it is open. Such a request reads what opens later, or what a reload replaces,
// through an atomic pointer.
type parts struct {
	life    *lifecycle
	applied *atomic.Pointer[node.Config] // the configuration that is applied now

	memory        *memory
	state         *stateFile
	nats          *natsServer
	mesh          *meshConn
	upstreams     *upstreams
	disk          *disk
	storage       *storage
	nodes         *nodes
	cache         *cache
	limits        *limits
	sites         *sites
	edge          *edgeServer
	fetches       *fetches
	memberAPI     *memberAPI
	cachedRoutes  *cachedRoutes
	limitedRoutes *limitedRoutes
	announcement  *announcement
	diskSpace     *diskSpace
	rates         *rates
	linger        *linger
	reloads       *reloads
	report        *report
	admin         *adminServer
	running       *running
}

// newParts allocates the parts of a node. It opens none.
func newParts(n *Node) *parts {
	opts, cfg, log, secrets := &n.opts, &n.opts.Config, n.log, n.logs.Secrets()
	p := &parts{life: &lifecycle{}, applied: &atomic.Pointer[node.Config]{}}
	p.applied.Store(cfg)
	p.memory = &memory{opts: opts, log: log}
	p.state = &stateFile{opts: opts, log: log, secrets: secrets}
	p.nats = &natsServer{cfg: cfg, log: log, life: p.life, state: p.state}
	p.mesh = &meshConn{cfg: cfg, log: log, nats: p.nats}
	p.upstreams = newUpstreams(cfg, log, p.state, p.mesh)
	p.disk = &disk{cfg: cfg, log: log, nats: p.nats}
	p.storage = &storage{dir: cfg.Node.Data, log: log, record: p.state.record, nats: p.nats}
	p.nodes = &nodes{opts: opts, log: log, life: p.life, state: p.state, nats: p.nats, mesh: p.mesh}
	p.cache = &cache{cfg: cfg, log: log, memory: p.memory, state: p.state, mesh: p.mesh, disk: p.disk}
	p.limits = &limits{
		cfg: cfg, log: log, memory: p.memory, state: p.state, nats: p.nats, mesh: p.mesh, disk: p.disk,
		nodes: p.nodes,
	}
	p.sites = &sites{
		cfg: cfg, log: log, applied: p.applied, memory: p.memory, state: p.state, mesh: p.mesh, disk: p.disk,
		nodes: p.nodes,
	}
	p.edge = &edgeServer{
		cfg: cfg, log: log, memory: p.memory, state: p.state, mesh: p.mesh, nodes: p.nodes, cache: p.cache,
		limits: p.limits, sites: p.sites,
	}
	p.fetches = &fetches{state: p.state, mesh: p.mesh, edge: p.edge}
	p.memberAPI = &memberAPI{
		log: log, applied: p.applied, mesh: p.mesh, cache: p.cache, limits: p.limits, edge: p.edge,
	}
	p.cachedRoutes = &cachedRoutes{life: p.life, cache: p.cache, edge: p.edge, nodes: p.nodes}
	p.limitedRoutes = &limitedRoutes{life: p.life, limits: p.limits, edge: p.edge, storage: p.storage}
	p.announcement = &announcement{opts: opts, log: log, state: p.state, nats: p.nats}
	p.diskSpace = &diskSpace{cfg: cfg, disk: p.disk, storage: p.storage, edge: p.edge}
	p.rates = &rates{edge: p.edge}
	p.linger = &linger{cfg: cfg, edge: p.edge, idleEnds: make(chan struct{})}
	// The parts that need lists of other parts come last.
	p.reloads = &reloads{
		opts: opts, log: log, secrets: secrets, applied: p.applied, life: p.life, state: p.state,
		upstreams: p.upstreams, nodes: p.nodes, changes: p.changes(),
	}
	n.admin = p.adminNode(opts)
	p.admin = &adminServer{cfg: cfg, log: log, node: n.admin}
	p.running = &running{cfg: cfg, admin: p.admin}
	return p
}

// order lists the parts in the order in which they open. They close in reverse.
func (p *parts) order() []part {
	return []part{
		{"memory", p.memory.open, nil},
		{"state", p.state.open, p.state.close},
		{"NATS", p.nats.open, p.nats.close},
		{"mesh", p.mesh.open, p.mesh.close},
		{"upstreams", p.upstreams.open, p.upstreams.close},
		{"disk", p.disk.open, nil},
		{"cache", p.cache.open, p.cache.close},
		{"limits", p.limits.open, p.limits.close},
		{"sites", p.sites.open, p.sites.close},
		{"edge", p.edge.open, p.edge.close},
		{"cache's fetches for others", p.fetches.open, p.fetches.close},
		{"member API", p.memberAPI.open, p.memberAPI.close},
		{"purges of routes", p.cachedRoutes.open, nil},
		{"store of limits", p.limits.openStore, nil},
		{"announcement", p.announcement.open, nil},
		{"nodes", p.nodes.open, p.nodes.close},
		{"the watch over the data directory", p.storage.open, p.storage.close},
		{"rates", p.rates.open, p.rates.close},
		{"admin API", p.admin.open, p.admin.close},
		{runningFile, p.running.open, p.running.close},
	}
}

// drains are the steps of Shutdown before the parts close, so that no request is dropped.
func (p *parts) drains() []func(context.Context) error {
	return []func(context.Context) error{
		p.announcement.shutdown, p.linger.shutdown, p.edge.shutdown, p.reloads.shutdown, p.upstreams.shutdown,
	}
}

// changes are the steps of a reload between starting new upstreams and stopping removed ones. Limits change before the
// routes that use them; the cache begins to follow purges after the routes that need it are set.
func (p *parts) changes() []change {
	return []change{
		p.nats.change, p.limits.change, p.sites.change, p.edge.change, p.cachedRoutes.change, p.memory.change,
		p.nodes.change,
	}
}

// conditions are the functions that report degraded conditions, in the order in which status lists them.
func (p *parts) conditions() []func(*conditionList) {
	return []func(*conditionList){
		p.life.conditions, p.mesh.conditions, p.nats.conditions, p.storage.conditions, p.diskSpace.conditions,
		p.memory.conditions, p.cachedRoutes.conditions, p.limitedRoutes.conditions, p.sites.conditions,
		p.nodes.conditions, p.edge.conditions,
	}
}

// statuses are the functions that fill in status. Each part fills fields of its own.
func (p *parts) statuses() []func(*admin.Status) {
	return []func(*admin.Status){
		p.state.status, p.mesh.status, p.upstreams.status, p.nodes.status, p.cache.status, p.sites.status,
		p.edge.status, p.diskSpace.status, p.reloads.status,
	}
}

// adminNode returns what the admin API answers from.
func (p *parts) adminNode(opts *Options) admin.Node {
	services := &services{applied: p.applied, nats: p.nats, mesh: p.mesh}
	p.report = &report{
		opts: opts, life: p.life, state: p.state, rates: p.rates, services: services,
		conditions: p.conditions(), statuses: p.statuses(),
	}
	return admin.Node{
		Status:  p.report,
		Routes:  &explainer{upstreams: p.upstreams, edge: p.edge, services: services},
		Metrics: &counts{report: p.report, mesh: p.mesh, cache: p.cache, limits: p.limits, edge: p.edge},
		Purges:  &purges{cfg: &opts.Config, state: p.state, cache: p.cache, edge: p.edge, storage: p.storage},
		Limits:  p.limits,
		Reload:  p.reloads,
		Tail:    &events{mesh: p.mesh},
		Sites:   siteAdmin{p.sites, p.edge},
	}
}
