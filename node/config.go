package node

import "time"

// Version is the version of the configuration format that this build reads.
const Version = 1

// MaxMessage is the mesh's limit on a message: max_payload of its NATS server.
const MaxMessage = MiB

// MaxMessageBody is the largest body, in bytes, in one mesh message: half of MaxMessage, so that the header always
// fits.
const MaxMessageBody = MaxMessage / 2

// MaxInterim is how many interim responses (1xx) may precede a final one.
const MaxInterim = 8

// QueueGroup is the NATS queue group of every member.
const QueueGroup = "q"

// Config is the configuration of a node: the contents of millrace.yaml. Its zero value isn't usable; start from
// Default.
type Config struct {
	Version   int                 `yaml:"version" doc:"Version of this format; always 1." required:"true"`
	Node      Node                `yaml:"node" doc:"This node."`
	Edge      Edge                `yaml:"edge" doc:"Where HTTP clients connect."`
	Admin     Admin               `yaml:"admin" doc:"The operator's API: health, metrics, status, reload."`
	Mesh      Mesh                `yaml:"mesh" doc:"The NATS mesh that carries requests to members."`
	Cache     CacheStore          `yaml:"cache" doc:"The cache that routes with cache use: its sizes, and who may purge it."`
	Limits    map[string]Limit    `yaml:"limits" doc:"Rate limits that several routes, or members by api.limit.take, share by name."`
	Sites     Sites               `yaml:"sites" doc:"Folders that every node of the mesh serves (millrace publish): their disk and memory on this node, and by name the settings of those that differ from the defaults."`
	Upstreams map[string]Upstream `yaml:"upstreams" doc:"HTTP services that this node calls, by name."`
	Routes    []Route             `yaml:"routes" doc:"Which requests go where. The most specific route wins; the order never matters."`
}

// Node names this node and its data directory.
type Node struct {
	Name string `yaml:"name" doc:"Name of the node, unique in the mesh: a-z, 0-9, - and _."`
	Data string `yaml:"data" doc:"Directory for the node's state."`
}

// Edge configures the HTTP listener.
type Edge struct {
	Listen         Address  `yaml:"listen" doc:"Address for HTTP clients."`
	TrustedProxies []Prefix `yaml:"trusted_proxies" doc:"Peers whose X-Forwarded-* and X-Request-Id fields are believed: addresses or CIDR ranges. X-Forwarded-Proto and -Host are then scheme and host of the request, for routes and cache keys too, so a proxy must set them or remove what clients send."`
	Expose         []string `yaml:"expose" doc:"Services reachable as /NAME without a route of their own; \"*\" for all."`
	Linger         Duration `yaml:"linger" doc:"On shutdown: answer with Connection: close this long before the listener closes."`
	Timeout        Duration `yaml:"timeout" doc:"Deadline of a request whose route names none."`
	MaxBody        Size     `yaml:"max_body" doc:"Largest request body of a route that names none."`
	MaxHeader      Size     `yaml:"max_header" doc:"Largest request head (request line and header fields)."`
	MaxRequests    int      `yaml:"max_requests" doc:"Requests in flight at once; one more is answered 503."`
	MaxConnections int      `yaml:"max_connections" doc:"Client connections at once; for one more an idle one is closed, or it is answered 503 and closed. The default is less where memory is short."`
	MaxClientShare int      `yaml:"max_client_share" doc:"Percent of max_connections that one client address may have, or one IPv6 network of 64 bits. Trusted proxies may have any number."`
	MaxBuffered    Size     `yaml:"max_buffered" doc:"Bytes of requests and responses held at once, in total; a request that needs more is answered 503. The default is at most a twentieth of what the process may have of memory, since a body passes several hands."`
	ReadTimeout    Duration `yaml:"read_timeout" doc:"Time for a client to send one request whole; a body over 512 KiB gets a second more for every 4 KiB."`
	WriteTimeout   Duration `yaml:"write_timeout" doc:"Time for a client to take one response; one that streams gets a second more for every 4 KiB."`
	IdleTimeout    Duration `yaml:"idle_timeout" doc:"How long a kept-alive connection may rest between requests."`
	StreamIdle     Duration `yaml:"stream_idle" doc:"How long a streamed body, an event stream or a WebSocket may rest without a byte either way."`
	AccessLog      bool     `yaml:"access_log" doc:"Log every request as one structured line."`
}

// Admin configures the operator's API.
type Admin struct {
	Listen Address `yaml:"listen" doc:"Address for the operator; keep it on loopback or a private network."`
	Token  string  `yaml:"token" doc:"Bearer token that the operator presents; needed when the address is beyond loopback."`
}

// Mesh configures the NATS mesh: an embedded server, or with URL an existing one.
type Mesh struct {
	Listen          Address  `yaml:"listen" doc:"Address for NATS clients: your members."`
	Cluster         Cluster  `yaml:"cluster" doc:"Joins this node with others. Left out, the node stands alone."`
	Leaf            *Leaf    `yaml:"leaf" doc:"Joins this node from far away, as a leaf of nodes that have leafs. It stores nothing for the mesh, and serves on while it is cut off."`
	Leafs           *Leafs   `yaml:"leafs" doc:"Lets leaf nodes join this one."`
	Token           string   `yaml:"token" doc:"Token that members present; generated and kept if empty, but needed in a cluster, the same on all its nodes. See client.url in the data directory."`
	GatherUpstreams []string `yaml:"gather_upstreams" doc:"Upstreams that members may have called by api.gather, * for all; services they may, too: see member_calls."`
	MemberCalls     []string `yaml:"member_calls" doc:"Services that members may call by api.call, * for all; by default none. Where it is set it also bounds the services that api.gather calls, which otherwise are all."`
	Local           Local    `yaml:"local" doc:"When a request may be handed to a member in this process without NATS."`
	URL             string   `yaml:"url" doc:"Use this existing NATS instead of the embedded server."`
	Prefix          string   `yaml:"prefix" doc:"Put before every subject, with mesh.url: subject tokens joined by dots."`
}

// Cluster joins nodes to one mesh. A data directory can't change between stand-alone and cluster use.
type Cluster struct {
	Name   string    `yaml:"name" doc:"Name of the cluster, the same on all its nodes: a-z, 0-9, - and _."`
	Listen Address   `yaml:"listen" doc:"Address for the other nodes."`
	Peers  []Address `yaml:"peers" doc:"Where the nodes that store data listen for each other. This node may be among them, so all nodes can share one list."`
	Token  string    `yaml:"token" doc:"Secret that the nodes present to each other, the same on all; needed when the address is beyond loopback."`
	Store  bool      `yaml:"store" doc:"This node stores the mesh's data (JetStream). Three or five nodes of a cluster do; further ones join with false."`
}

// Alone reports whether the configuration allows no other nodes.
func (m *Mesh) Alone() bool {
	return m.URL == "" && !m.Cluster.Enabled() && m.Leaf == nil && m.Leafs == nil
}

// Stores reports whether the node stores the mesh's data (JetStream).
func (m *Mesh) Stores() bool {
	return m.URL == "" && m.Leaf == nil && (!m.Cluster.Enabled() || m.Cluster.Store)
}

// standardCluster is the default: a node that is alone.
var standardCluster = Cluster{Listen: "127.0.0.1:6222", Store: true}

// Enabled reports whether the node is part of a cluster: whether any value differs from its default. Validate then
// requires the rest, so that half a cluster isn't taken for none.
func (c *Cluster) Enabled() bool {
	return c.Name != "" || len(c.Peers) > 0 || c.Token != "" || c.Listen != standardCluster.Listen ||
		c.Store != standardCluster.Store
}

// Local says when a request may be handed to a member in this process without NATS.
type Local string

// The values of Local.
const (
	LocalAuto    Local = "auto"    // only while no other member subscribes to the subject
	LocalNearest Local = "nearest" // whenever a member in this process isn't full
	LocalNATS    Local = "nats"    // never
)

// UnmarshalText accepts the three values of Local.
func (l *Local) UnmarshalText(text []byte) error {
	return oneOf(l, text, LocalAuto, LocalNearest, LocalNATS)
}

// Default returns the configuration of an empty file: loopback listeners on the usual ports, no routes.
func Default() Config {
	return Config{
		Version: Version,
		Node:    Node{Name: "n1", Data: "./millrace-data"},
		Edge: Edge{
			Listen:         "127.0.0.1:8080",
			Linger:         Duration(5 * time.Second),
			Timeout:        Duration(30 * time.Second),
			MaxBody:        GiB,
			MaxHeader:      32 * KiB,
			MaxRequests:    8192,
			MaxConnections: standardConnections,
			MaxClientShare: 50,
			MaxBuffered:    standardBuffered,
			ReadTimeout:    Duration(30 * time.Second),
			WriteTimeout:   Duration(60 * time.Second),
			IdleTimeout:    Duration(75 * time.Second),
			StreamIdle:     Duration(5 * time.Minute),
		},
		Admin: Admin{Listen: "127.0.0.1:8081"},
		Mesh:  Mesh{Listen: "127.0.0.1:4222", Local: LocalAuto, Cluster: standardCluster},
		Cache: CacheStore{Memory: standardMemory, Disk: GiB, Offline: OfflineValidate},
		Sites: Sites{Disk: standardSiteDisk, Memory: standardSiteMemory, Fill: FillAll},
	}
}
