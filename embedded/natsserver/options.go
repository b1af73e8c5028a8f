package natsserver

import (
	"fmt"
	"net"

	"github.com/nats-io/nats-server/v2/server"
)

// anySize is more than any disk has. By default the server would refuse streams whose sizes exceed three quarters of
// what was free at its start. Here the creators of streams decide the sizes.
const anySize = 1 << 50

// A member that vanished without closing its connection is noticed after three times clientPing. A member whose only
// thread is busy for less isn't taken for one.
const clientPing, clientPings = "5s", 2

// reportEvery is how many failed attempts to reconnect to a server make one line in the log, after the first line.
// There is about one attempt a second for each of a handful of connections.
const reportEvery = 300

// options returns the server's options. They are parsed from text, since accounts built in Go don't get JetStream.
func (s *Server) options(auth *authenticator) (*server.Options, error) {
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		return nil, fmt.Errorf("configure NATS server: %w", err)
	}
	if port == "0" {
		port = "-1" // nats-server's notation for any free port
	}
	if host == "" {
		host = "0.0.0.0"
	}
	text := fmt.Sprintf(`
server_name: %q
listen: %q
max_payload: %d
max_control_line: 4096
write_deadline: "10s"
ping_interval: %q
ping_max: %d
reconnect_error_reports: %d
accounts {
  SYS {}
  %s {%s}
}
system_account: SYS
`, s.cfg.Name, net.JoinHostPort(host, port), MaxPayload, clientPing, clientPings, reportEvery, account,
		s.cfg.accountText())
	if s.stores() {
		text += fmt.Sprintf(`
jetstream {
  store_dir: %q
  sync_interval: always
  max_file: %d
  limits { default_max_consumers: -1 }
}
`, s.cfg.Dir, anySize)
	}
	if s.cfg.Cluster != nil {
		text += s.cfg.Cluster.text()
	}
	if s.cfg.Leafs != nil {
		text += s.cfg.Leafs.text()
	}
	if s.cfg.Leaf != nil {
		text += s.cfg.Leaf.text()
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("configure NATS server: %w", err)
	}
	opts.NoSigs, opts.DisableJetStreamBanner = true, true
	opts.CustomClientAuthentication = auth
	return opts, nil
}

// accountText is the section of the account. A leaf's account has no JetStream, so that requests go to the hub.
func (c *Config) accountText() string {
	if c.Leaf != nil {
		return ""
	}
	return " jetstream: enabled "
}
