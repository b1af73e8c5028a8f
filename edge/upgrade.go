package edge

import (
	"strings"

	"millrace/edge/exchange"
	"millrace/node"
)

// chooseProtocol sets the protocol to switch to: of those that the client offers, the first that the route allows,
// since clients list them by preference. The target decides whether the connection is switched.
func chooseProtocol(x *exchange.Exchange) {
	if x.Upgrade.Offered == "" || x.Upgrade.Socket || x.Route.Origin().Kind != node.KindUpstream {
		return
	}
	for offer := range strings.SplitSeq(x.Upgrade.Offered, ",") {
		if offer = strings.Trim(offer, " \t"); x.Route.Upgrade.Has(offer) {
			x.Upgrade.Socket, x.Upgrade.Protocol = true, offer
			return
		}
	}
}
