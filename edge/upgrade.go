package edge

import (
	"strings"

	"millrace/edge/guard"
	"millrace/node"
)

// offered gives the protocols that a request offers to switch its connection to (RFC 9110 §7.8); "" if it can't be
// switched.
func offered(r *guard.Request) string {
	if r.HTTP10 || r.Length == guard.Chunked || r.Length > int64(node.MaxMessageBody) || r.Close || r.Refusal != nil {
		return ""
	}
	return strings.Join(r.Header.Values("Upgrade"), ",")
}

// chooseProtocol makes a socket of an exchange whose client offers a protocol that the route lets pass: the first of
// them, which the client likes best. Whether the connection is switched is the target's decision.
func (x *Exchange) chooseProtocol() {
	if x.Upgrade == "" || x.Socket || x.route.To.Kind != node.KindUpstream {
		return
	}
	for offer := range strings.SplitSeq(x.Upgrade, ",") {
		if offer = strings.Trim(offer, " \t"); x.route.Upgrade.Has(offer) {
			x.Socket, x.protocol = true, offer
			return
		}
	}
}
