package mesh

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// connzSubject is where every NATS server answers with the connections of the requester's own account.
const connzSubject = "$SYS.REQ.ACCOUNT.PING.CONNZ"

// Bounds of a Census: how long it waits for the first server and for each further one, how many connections a server
// lists in one message, and how many messages it is asked for.
const (
	firstServerWithin = time.Second
	nextServerWithin  = 200 * time.Millisecond
	connzPage         = 256
	maxConnzPages     = 16
)

// Subscriber is a member of a service.
type Subscriber struct {
	Name   string `json:"name,omitempty"` // of its connection, chosen by the member
	Lang   string `json:"lang,omitempty"` // language of its NATS client, according to that
	Addr   string `json:"addr,omitempty"` // of its connection; empty for one in a node's process
	Server string `json:"server"`         // name of the node whose server it is connected to
}

// Census returns the members of all services in the mesh, sorted, by service name. Subscriptions in other queue groups
// or only to streams don't count. servers is the number of NATS servers, or 0 if unknown. It fails if no server
// answers, which may happen with mesh.url.
func (c *Conn) Census(ctx context.Context, servers int) (map[string][]Subscriber, error) {
	out := map[string][]Subscriber{}
	for page := range maxConnzPages {
		answers, err := c.requestConnz(ctx, page*connzPage, servers)
		if err != nil {
			return nil, fmt.Errorf("ask NATS who subscribes: %w", err)
		}
		more := false
		for i := range answers {
			answers[i].addSubscribers(out, c.cfg.Prefix+"http.")
			more = more || len(answers[i].Data.Conns) == connzPage
		}
		if !more {
			break
		}
	}
	for _, members := range out {
		slices.SortFunc(members, func(a, b Subscriber) int {
			return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Addr, b.Addr))
		})
	}
	return out, nil
}

// connzReply is a server's list of its connections.
type connzReply struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		Conns []struct {
			IP   string `json:"ip"`
			Port int    `json:"port"`
			Name string `json:"name"`
			Lang string `json:"lang"`
			Subs []struct {
				Subject string `json:"subject"`
				Queue   string `json:"qgroup"`
			} `json:"subscriptions_list_detail"`
		} `json:"connections"`
	} `json:"data"`
}

// addSubscribers adds the members to out. prefix is the prefix of service subjects.
func (a *connzReply) addSubscribers(out map[string][]Subscriber, prefix string) {
	for _, conn := range a.Data.Conns {
		one := Subscriber{Name: conn.Name, Lang: conn.Lang, Server: a.Server.Name}
		if conn.Port != 0 {
			one.Addr = fmt.Sprintf("%s:%d", conn.IP, conn.Port)
		}
		for _, sub := range conn.Subs {
			name, service := strings.CutPrefix(sub.Subject, prefix)
			if service && sub.Queue == QueueGroup && node.ValidName(name) {
				out[name] = append(out[name], one)
			}
		}
	}
}

// requestConnz asks every server for its connections that subscribe to services, starting at offset.
func (c *Conn) requestConnz(ctx context.Context, offset, servers int) (out []connzReply, err error) {
	ask, err := json.Marshal(map[string]any{
		"subscriptions_detail": true, "filter_subject": c.cfg.Prefix + "http.*", "limit": connzPage, "offset": offset,
	})
	if err != nil {
		return nil, err // plain values always marshal
	}
	ctx, cancel := context.WithTimeout(ctx, firstServerWithin)
	defer cancel()
	reply := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(reply)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	if err := c.nc.PublishRequest(connzSubject, reply, ask); err != nil {
		return nil, err
	}
	for servers == 0 || len(out) < servers {
		answer, err := nextConnz(ctx, sub, len(out) > 0)
		switch {
		case err == nil:
			out = append(out, answer)
		case len(out) > 0: // no more servers, or they are away
			return out, nil
		default:
			return nil, err
		}
	}
	return out, nil
}

// nextConnz waits for a server's reply; with quiet only for nextServerWithin.
func nextConnz(ctx context.Context, sub *nats.Subscription, quiet bool) (answer connzReply, err error) {
	if quiet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, nextServerWithin)
		defer cancel()
	}
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return answer, err
	}
	if len(msg.Data) == 0 {
		return answer, errors.New("it doesn't tell")
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return answer, fmt.Errorf("read its answer: %w", err)
	}
	return answer, nil
}
