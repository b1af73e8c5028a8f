package natsserver

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// electionAsk bounds the wait for the answers of the other servers.
const electionAsk = 200 * time.Millisecond

// connectedServers returns the names of the servers that this one is connected to.
func (e *elections) connectedServers() []string {
	routes, err := e.srv.Routez(nil)
	if err != nil {
		return nil
	}
	var out []string
	for _, r := range routes.Routes {
		out = append(out, r.RemoteName)
	}
	return out
}

// remoteRoutes returns the servers that this server, or any that it reaches, is connected to. A leader among them is
// alive, and only this server has lost it.
func (e *elections) remoteRoutes(ctx context.Context) (out []string) {
	e.ask(ctx, "ROUTEZ", nil, func(data []byte) {
		var routes server.Routez
		if json.Unmarshal(data, &routes) != nil {
			return
		}
		for _, r := range routes.Routes {
			out = append(out, r.RemoteName)
		}
	})
	return out
}

// remoteLeaderless counts, for each group, the members among the reached servers that know no leader. If they are a
// majority, there is no leader, whatever the other members know.
func (e *elections) remoteLeaderless(ctx context.Context) map[string]int {
	out := map[string]int{}
	for _, account := range electionAccounts {
		e.ask(ctx, "RAFTZ", &server.RaftzOptions{AccountFilter: account}, func(data []byte) {
			var status map[string]map[string]struct {
				Leader string `json:"leader"`
			}
			if json.Unmarshal(data, &status) != nil {
				return
			}
			for _, groups := range status {
				for name, g := range groups {
					if g.Leader == "" {
						out[name]++
					}
				}
			}
		})
	}
	return out
}

// ask sends a question to all reached servers, and calls answer for each reply that arrives within electionAsk.
func (e *elections) ask(ctx context.Context, what string, options any, answer func(data []byte)) {
	inbox := e.nc.NewInbox()
	sub, err := e.nc.SubscribeSync(inbox)
	if err != nil {
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	var question []byte
	if options != nil {
		question, _ = json.Marshal(options) // strings always marshal
	}
	if e.nc.PublishRequest("$SYS.REQ.SERVER.PING."+what, inbox, question) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, electionAsk)
	defer cancel()
	for range e.srv.NumRemotes() + 1 { // this one answers too
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return
		}
		var reply struct {
			Data json.RawMessage `json:"data"`
		}
		if json.Unmarshal(msg.Data, &reply) == nil {
			answer(reply.Data)
		}
	}
}

// noCandidate is the candidate's id in the request for votes. No server has it: real ids are hashes without this
// character.
const noCandidate = "--------"

// hasten sends the members of a group a request for votes that they can't grant. As nats-server encodes it, the request
// has the term, the last term and last index of the sender's log, and its id.
func (e *elections) hasten(g *group) {
	b := binary.LittleEndian.AppendUint64(nil, g.term+1)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = append(b, noCandidate...)
	_ = e.nc.PublishRequest("$NRG.V."+g.name, "$NRG.R."+noCandidate, b) // on failure the group elects in its own time
}
