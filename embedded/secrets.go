package embedded

import (
	"log/slog"
	"net/url"

	"millrace/embedded/logs"
	"millrace/node"
)

// guardLog makes the node's log one that hides its secrets and thins what repeats.
func (n *Node) guardLog(log *slog.Logger, cfg *node.Config) {
	n.guard = logs.New(log.Handler())
	n.hideSecrets(cfg)
	n.log = slog.New(n.guard).With("node", cfg.Node.Name)
}

// hideSecrets lets the secrets of a configuration be hidden from now on, besides those before.
func (n *Node) hideSecrets(cfg *node.Config) {
	secrets := n.guard.Secrets()
	secrets.Add(cfg.Admin.Token, cfg.Mesh.Token, cfg.Mesh.Cluster.Token)
	u, err := url.Parse(cfg.Mesh.URL)
	if err != nil || u.User == nil {
		return
	}
	if password, ok := u.User.Password(); ok {
		secrets.Add(password)
		return
	}
	secrets.Add(u.User.Username()) // a token stands there
}
