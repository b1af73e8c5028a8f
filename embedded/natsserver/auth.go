package natsserver

import (
	"crypto/subtle"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"millrace/node"
)

// nodeUser is the user name of nodes. A member can't use it: the password decides.
const nodeUser = "millrace"

// systemUser is the user name of this process in the server's own account. Its password leaves the process as little as
// the node's.
const systemUser = "millrace-system"

// answerWithin bounds the memory for replies that never come.
const answerWithin = 10 * time.Minute

// maxAnswers is how often a member may publish to the reply subject of one request: its reply, and interim ones before
// it.
const maxAnswers = node.MaxInterim + 1

// authenticator decides who a client is: a node, a member, or nobody.
type authenticator struct {
	s   *Server
	srv atomic.Pointer[server.Server] // that asks; set before it takes connections
}

// Check compares credentials in constant time and registers the client's permissions.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	acc, err := a.account()
	if err != nil {
		return false
	}
	switch {
	case o.Username == systemUser && same(o.Password, a.s.systemPassword):
		c.RegisterUser(&server.User{Username: systemUser, Account: a.srv.Load().SystemAccount()})
		return true
	case o.Username == nodeUser && same(o.Password, a.s.nodePassword):
		c.RegisterUser(&server.User{Username: nodeUser, Account: acc})
		return true
	case o.Username == watchUser && same(o.Password, a.s.nodePassword):
		sys := a.srv.Load().SystemAccount()
		c.RegisterUser(&server.User{Username: watchUser, Account: sys, Permissions: onlyHears(disconnected)})
		return true
	case same(o.Token, a.s.cfg.MemberToken), same(o.Password, a.s.cfg.MemberToken):
		name := o.Username
		if name == "" {
			name = o.Name
		}
		c.RegisterUser(&server.User{Username: memberUser, Account: acc, Permissions: a.member(name)})
		return true
	}
	return false
}

// account finds the account of the server that asks.
func (a *authenticator) account() (*server.Account, error) {
	if srv := a.srv.Load(); srv != nil {
		return srv.LookupAccount(account)
	}
	return nil, server.ErrServerNotRunning
}

// member lists what a member may do; DESIGN.md explains each line.
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

// onlyHears lets a client subscribe to one subject, and nothing else.
func onlyHears(subject string) *server.Permissions {
	return &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{subject}},
		Publish:   &server.SubjectPermission{Deny: []string{">"}},
	}
}

func inboxName(s string) bool {
	return len(s) <= node.MaxName && s != "" &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func same(a, b string) bool { return b != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
