package node

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Leaf joins a node to nodes that are far away. They are its hub.
type Leaf struct {
	URL   []HubAddress `yaml:"url" doc:"Where nodes of the hub listen for leafs (mesh.leafs.listen there). With several, one that answers is used." required:"true"`
	Token string       `yaml:"token" doc:"Secret of leaf nodes: mesh.leafs.token of the hub." required:"true"`
}

// Leafs lets leaf nodes join this node.
type Leafs struct {
	Listen    Address  `yaml:"listen" doc:"Address for leaf nodes." required:"true"`
	Token     string   `yaml:"token" doc:"Secret that leaf nodes present, the same on all nodes that have leafs; other than those of members and of the cluster." required:"true"`
	Serves    []Target `yaml:"serves" doc:"Services and upstreams whose members at leafs may get requests of other nodes; by default none."`
	Members   []string `yaml:"members" doc:"Names of members whose streams (bodies over 512 KiB, event streams and WebSockets) pass between leafs and other nodes. Streams of upstreams always pass."`
	Advertise bool     `yaml:"advertise" doc:"Tells leaf nodes the addresses of the cluster's other nodes too. They must then be reachable from where the leafs are."`
}

// HubAddress is where a node listens for leafs: host and port.
type HubAddress string

// leafScheme is how NATS writes such an address as a URL.
const leafScheme = "nats-leaf://"

// UnmarshalText reads host:port or nats-leaf://host:port.
func (h *HubAddress) UnmarshalText(text []byte) error {
	address := strings.TrimSuffix(strings.TrimPrefix(string(text), leafScheme), "/")
	var a Address
	if strings.Contains(address, "@") {
		return errors.New("an address of a hub holds a user or token: write it in mesh.leaf.token")
	}
	if err := a.UnmarshalText([]byte(address)); err != nil {
		return fmt.Errorf("%q is not where a hub listens for leafs: write host:port, such as hub.example.com:7422",
			text)
	}
	if len(a.endpoints()) == 0 {
		return fmt.Errorf("%q is not where a hub can be reached: name host and port", text)
	}
	*h = HubAddress(address)
	return nil
}

// leaf checks how this node joins a hub, or lets leafs join.
func (v *validator) leaf(m *Mesh) {
	if l := m.Leaf; l != nil {
		at := func(keys ...string) []string { return append([]string{"mesh", "leaf"}, keys...) }
		v.check(m.URL == "", at(), "leaf goes with the embedded server: leave it out with mesh.url")
		v.check(!m.Cluster.Enabled(), at(), "a leaf is of no cluster: leave out mesh.leaf, or mesh.cluster")
		v.check(m.Leafs == nil, at(), "a leaf has no leafs: leave out mesh.leaf, or mesh.leafs")
		v.check(len(l.URL) > 0, at("url"), "url names no hub: write where one listens for leafs, such as "+
			"hub.example.com:7422")
		for i, u := range l.URL {
			v.check(!slices.Contains(l.URL[:i], u), at("url", strconv.Itoa(i)), "%s is listed twice", u)
		}
		v.secret(at("token"), l.Token)
	}
	if l := m.Leafs; l != nil {
		at := func(keys ...string) []string { return append([]string{"mesh", "leafs"}, keys...) }
		v.check(m.URL == "", at(), "leafs go with the embedded server: leave them out with mesh.url")
		_, port := l.Listen.split()
		v.check(port > 0, at("listen"), "%s has no port of its own: name the one that stands in mesh.leaf.url of the "+
			"leafs, such as 7422", l.Listen)
		v.secret(at("token"), l.Token)
		for i, t := range l.Serves {
			v.check(t.Kind == KindService || t.Kind == KindUpstream || t.Kind == "", at("serves", strconv.Itoa(i)),
				"%s has no members: write service:NAME or upstream:NAME", t)
		}
		for i, name := range l.Members {
			v.check(validMemberName(name), at("members", strconv.Itoa(i)),
				"%q is not the name of a member's connection: use 1 to %d of A-Z, a-z, 0-9, - and _", name, MaxName)
		}
		v.check(l.Token == "" || l.Token != m.Token && l.Token != m.Cluster.Token, at("token"),
			"the token is that of members or of the cluster, which may do other things: write another")
	}
}

// validMemberName reports whether a member's inbox can have this name. See mesh/PROTOCOL.md §6.
func validMemberName(s string) bool {
	return s != "" && len(s) <= MaxName && validToken(s)
}

// secret checks a token that must be set.
func (v *validator) secret(path []string, token string) {
	v.check(token != "", path, "token is empty: write a secret of 16 or more characters")
	v.token(path, token)
}
