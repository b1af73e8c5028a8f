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

// near lists the servers that this one is connected to.
func (e *elections) near() []string {
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

// farRoutes lists the servers that any of those is connected to which this one reaches, itself included: a leader that
// only this one has lost hasn't gone.
func (e *elections) farRoutes(ctx context.Context) (out []string) {
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

// farLeaderless counts, for each group, those of its members among these servers that know no leader: if that is a
// majority, there is none, whatever those say that this server doesn't reach.
func (e *elections) farLeaderless(ctx context.Context) map[string]int {
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

// ask puts a question to all servers that this one reaches, and gives the answers that come soon.
func (e *elections) ask(ctx context.Context, what string, options any, answer func(data []byte)) {
	inbox := e.nc.NewInbox()
	sub, err := e.nc.SubscribeSync(inbox)
	if err != nil {
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	var question []byte
	if options != nil {
		question, _ = json.Marshal(options) // texts
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

// nobody is a candidate's id that no server has: theirs are hashes without such characters.
const nobody = "--------"

// hasten asks the members of a group for votes that they can't give: term, last term and last index of the sender's
// log, and its id, as nats-server's servers write it to each other.
func (e *elections) hasten(g *group) {
	b := binary.LittleEndian.AppendUint64(nil, g.term+1)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = append(b, nobody...)
	_ = e.nc.PublishRequest("$NRG.V."+g.name, "$NRG.R."+nobody, b) // else the group waits for its own election
}
