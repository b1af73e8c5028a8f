package natsserver

import (
	"crypto/subtle"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"millrace/node"
)

// nodeUser is the user name of nodes. A member can't use it, since it doesn't have the password.
const nodeUser = "millrace"

// systemUser is the user name of this process in the system account. Like the node's, its password never leaves the
// process.
const systemUser = "millrace-system"

// answerWithin is how long a member may reply to a request. It bounds the memory for replies that never come.
const answerWithin = 10 * time.Minute

// maxAnswers is how often a member may publish to the reply subject of one request: interim responses and one reply.
const maxAnswers = node.MaxInterim + 1

// authenticator decides whether a client is a node, a member, or refused.
type authenticator struct {
	s   *Server
	srv atomic.Pointer[server.Server] // the server that asks; set before it accepts connections
}

// Check compares credentials in constant time and registers the client's permissions.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	acc, err := a.account()
	if err != nil {
		return false
	}
	if c.Kind() == server.LEAF {
		return a.checkLeafUser(c, acc)
	}
	switch {
	case o.Username == systemUser && equalSecrets(o.Password, a.s.systemPassword):
		c.RegisterUser(&server.User{Username: systemUser, Account: a.srv.Load().SystemAccount()})
		return true
	case o.Username == nodeUser && equalSecrets(o.Password, a.s.nodePassword):
		c.RegisterUser(&server.User{Username: nodeUser, Account: acc})
		return true
	case o.Username == watchUser && equalSecrets(o.Password, a.s.nodePassword):
		sys := a.srv.Load().SystemAccount()
		c.RegisterUser(&server.User{Username: watchUser, Account: sys, Permissions: subscribeOnly(disconnectSubject)})
		return true
	case equalSecrets(o.Token, a.s.cfg.MemberToken), equalSecrets(o.Password, a.s.cfg.MemberToken):
		name := o.Username
		if name == "" {
			name = o.Name
		}
		c.RegisterUser(&server.User{Username: memberUser, Account: acc, Permissions: a.member(name)})
		return true
	}
	return false
}

// account returns the account of nodes and members in the server that asks.
func (a *authenticator) account() (*server.Account, error) {
	if srv := a.srv.Load(); srv != nil {
		return srv.LookupAccount(account)
	}
	return nil, server.ErrServerNotRunning
}

// member returns the permissions of a member. DESIGN.md explains each line.
func (a *authenticator) member(name string) *server.Permissions {
	group := " " + node.QueueGroup
	subscribe := []string{"http.>" + group, "cancel.http.>", "event.>", "$SRV.>"}
	subscribe = append(subscribe, *a.s.subjects.Load()...) // in any queue group, and in none
	if inboxName(name) {
		subscribe = append(subscribe, "_INBOX_"+name+".>")
	}
	return &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: subscribe},
		Publish:   &server.SubjectPermission{Allow: []string{"api.>", "stream.>"}},
		Response:  &server.ResponsePermission{MaxMsgs: maxAnswers, Expires: answerWithin},
	}
}

// subscribeOnly returns permissions to subscribe to one subject, and nothing else.
func subscribeOnly(subject string) *server.Permissions {
	return &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{subject}},
		Publish:   &server.SubjectPermission{Deny: []string{">"}},
	}
}

func inboxName(s string) bool {
	return len(s) <= node.MaxName && s != "" &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func equalSecrets(a, b string) bool {
	return b != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
