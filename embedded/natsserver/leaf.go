package natsserver

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// leafUser is the user name of leaf servers. Only a connection to the leafs' address may have it.
const leafUser = "leaf"

// Leafs configures the address for servers that join from far away as leafs.
type Leafs struct {
	Listen    string // host:port
	Token     string // secret of all leafs
	Advertise bool   // tell leafs the addresses of the cluster's other servers
	Access    Access // what leafs may do here
}

// Access is what leaf servers may do in the account of their hub. DESIGN.md says why each part is needed.
type Access struct {
	Both    []string // subjects that leafs may publish and subscribe to
	Publish []string // subjects that leafs may publish only
	Read    []string // streams of JetStream that they may read and watch
}

// Leaf configures a server that is a leaf of others, its hub. It has no JetStream: the hub's answers.
type Leaf struct {
	Hub   []string // host:port of servers that have Leafs
	Token string
}

// check refuses addresses and tokens that can't be used.
func (c *Config) checkLeaf() error {
	if l := c.Leafs; l != nil {
		if _, _, err := net.SplitHostPort(l.Listen); err != nil {
			return fmt.Errorf("leafs' address: %w", err)
		}
		if l.Token == "" {
			return errors.New("leafs need a token")
		}
	}
	if l := c.Leaf; l != nil && (l.Token == "" || len(l.Hub) == 0 || c.Cluster != nil || c.Leafs != nil) {
		return errors.New("a leaf needs a token and a hub, and is of no cluster")
	}
	return nil
}

// sameDomain lets requests to JetStream pass between a leaf and its hub as they are. Otherwise the servers keep those
// from each other, unless JetStream has a domain, which every request would have to name.
const sameDomain = "default_js_domain { " + account + ": \"\" }\n"

// text is the section of the server that leafs join. Its users are the business of authenticator.
func (l *Leafs) text() string {
	host, port, _ := net.SplitHostPort(l.Listen) // checked by New
	if host == "" {
		host = "0.0.0.0"
	}
	return sameDomain + fmt.Sprintf("leafnodes {\n  listen: %q\n  no_advertise: %t\n}\n", net.JoinHostPort(host, port),
		!l.Advertise)
}

// text is the section of a leaf.
func (l *Leaf) text() string {
	urls := make([]string, len(l.Hub))
	for i, hub := range l.Hub {
		urls[i] = fmt.Sprintf("%q", "nats-leaf://"+leafUser+":"+l.Token+"@"+hub)
	}
	return sameDomain + fmt.Sprintf("leafnodes {\n  reconnect: \"1s\"\n  remotes [ { account: %s, urls: [%s], "+
		"dial_timeout: \"2s\" } ]\n}\n", account, strings.Join(urls, ", "))
}

// checkLeafUser decides whether a connection to the leafs' address is a leaf, and registers its permissions.
func (a *authenticator) checkLeafUser(c server.ClientAuthentication, acc *server.Account) bool {
	l, o := a.s.cfg.Leafs, c.GetOpts()
	if l == nil || o.Username != leafUser || !equalSecrets(o.Password, l.Token) {
		return false
	}
	c.RegisterUser(&server.User{Username: leafUser, Account: acc, Permissions: l.Access.permissions()})
	return true
}

// permissions returns the permissions of leafs, from their side.
func (a *Access) permissions() *server.Permissions {
	publish := slices.Concat(a.Both, a.Publish)
	for _, stream := range a.Read {
		for _, api := range readAPI {
			publish = append(publish, strings.ReplaceAll(api, "STREAM_NAME", stream))
		}
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: a.Both},
	}
}

// readAPI are the requests of JetStream's API that read or watch a stream. None changes it.
var readAPI = []string{
	"$JS.API.STREAM.INFO.STREAM_NAME", "$JS.API.STREAM.MSG.GET.STREAM_NAME", "$JS.API.DIRECT.GET.STREAM_NAME",
	"$JS.API.DIRECT.GET.STREAM_NAME.>", "$JS.API.CONSUMER.CREATE.STREAM_NAME", "$JS.API.CONSUMER.CREATE.STREAM_NAME.>",
	"$JS.API.CONSUMER.INFO.STREAM_NAME.*", "$JS.API.CONSUMER.DELETE.STREAM_NAME.*",
	"$JS.API.CONSUMER.MSG.NEXT.STREAM_NAME.*", "$JS.ACK.STREAM_NAME.>", "$JS.FC.STREAM_NAME.>",
}

// Hub is the connection of a leaf to its hub.
type Hub struct {
	Connected bool
	Name      string // of the server that it is connected to
	Addr      string // of that server
}

// Hub returns the state of a leaf's connection to its hub. That of other servers is never connected.
func (s *Server) Hub() Hub {
	srv := s.current.Load()
	if srv == nil || s.cfg.Leaf == nil {
		return Hub{}
	}
	leafs, err := srv.Leafz(nil)
	if err != nil || len(leafs.Leafs) == 0 {
		return Hub{}
	}
	l := leafs.Leafs[0]
	return Hub{Connected: true, Name: l.Name, Addr: net.JoinHostPort(l.IP, strconv.Itoa(l.Port))}
}
