package node

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Kind is the kind of a Target.
type Kind string

// The kinds of targets.
const (
	KindService  Kind = "service"  // service:NAME, subject http.NAME
	KindUpstream Kind = "upstream" // upstream:NAME, subject upstream.NAME
	KindNATS     Kind = "nats"     // nats:SUBJECT, a plain NATS request
	KindSite     Kind = "site"     // site:NAME, files that this node has
)

// Target is where a route sends its requests. Name is set for services, upstreams and sites, Subject for plain NATS.
type Target struct {
	Kind    Kind
	Name    string
	Subject Subject
}

// UnmarshalText reads service:NAME, upstream:NAME, nats:SUBJECT or site:NAME.
func (t *Target) UnmarshalText(text []byte) error {
	kind, rest, ok := strings.Cut(string(text), ":")
	if !ok {
		return targetError(string(text))
	}
	switch Kind(kind) {
	case KindService, KindUpstream, KindSite:
		if trimmed := strings.TrimSpace(rest); trimmed != rest && ValidName(trimmed) {
			return fmt.Errorf("%q has a space behind its colon: write %s:%s", text, kind, trimmed)
		}
		if err := CheckName(rest); err != nil {
			return err
		}
		*t = Target{Kind: Kind(kind), Name: rest}
		return nil
	case KindNATS:
		subject, err := ParseSubject(rest)
		if err != nil {
			return err
		}
		*t = Target{Kind: KindNATS, Subject: subject}
		return nil
	}
	if kind == "http" || kind == "https" {
		return fmt.Errorf("%q is the URL of a target: list it in targets of one of upstreams, and write upstream:NAME "+
			"here", text)
	}
	if isPort(rest) {
		return fmt.Errorf("%q is an address: list http://%s in targets of one of upstreams, and write upstream:NAME "+
			"here", text, cmp.Or(kind, "127.0.0.1")+":"+rest)
	}
	return fmt.Errorf("%q is not a kind of target: write service:NAME, upstream:NAME, nats:SUBJECT or site:NAME%s",
		kind, didYouMean(kind, []string{string(KindService), string(KindUpstream), string(KindNATS), string(KindSite)}))
}

// targetError returns the error for a text without a kind, with what it may mean.
func targetError(text string) error {
	switch subject, err := ParseSubject(text); {
	case strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/"):
		return fmt.Errorf("%q is a folder: write site:NAME here, and run millrace publish %[1]s --site NAME", text)
	case ValidName(text) && !isPort(text):
		return fmt.Errorf("%q is not a target: write upstream:%[1]s for an upstream, or service:%[1]s for whoever "+
			"subscribes to http.%[1]s", text)
	case isPort(text):
		return fmt.Errorf("%q is a port: list http://127.0.0.1:%[1]s in targets of one of upstreams, and write "+
			"upstream:NAME here", text)
	case err == nil && strings.Contains(text, "."):
		return fmt.Errorf("%q is not a target: write nats:%s for a plain NATS request, or list a host in targets of "+
			"one of upstreams", text, subject)
	}
	return fmt.Errorf("%q is not a target: write service:NAME, upstream:NAME, nats:SUBJECT or site:NAME", text)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// String writes the target as UnmarshalText reads it.
func (t Target) String() string {
	switch t.Kind {
	case "":
		return ""
	case KindNATS:
		return "nats:" + t.Subject.String()
	case KindService, KindUpstream, KindSite:
	}
	return string(t.Kind) + ":" + t.Name
}

// MarshalText writes the target as UnmarshalText reads it.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MaxName is the largest length of a service, upstream, site or node name.
const MaxName = 64

// CheckName reports whether s can name a service, an upstream, a site, a node or a route: 1 to 64 of a-z, 0-9, - and _.
// Such a name is safe as a NATS subject token, a metric label and a log value.
func CheckName(s string) error {
	if ValidName(s) {
		return nil
	}
	return fmt.Errorf("%q is not a name: use 1 to %d of a-z, 0-9, - and _", s, MaxName)
}

// ValidName is like CheckName, but returns no explanation and allocates nothing.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
