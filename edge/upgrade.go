package edge

import (
	"strings"

	"millrace/edge/exchange"
	"millrace/node"
)

// chooseProtocol makes a socket of an exchange whose client offers a protocol that the route lets pass: the first of
// them, which the client likes best. Whether the connection is switched is the target's decision.
func chooseProtocol(x *exchange.Exchange) {
	if x.Upgrade.Offered == "" || x.Upgrade.Socket || x.Route.To.Kind != node.KindUpstream {
		return
	}
	for offer := range strings.SplitSeq(x.Upgrade.Offered, ",") {
		if offer = strings.Trim(offer, " \t"); x.Route.Upgrade.Has(offer) {
			x.Upgrade.Socket, x.Upgrade.Protocol = true, offer
			return
		}
	}
}
