package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"millrace/edge/admin"
	"millrace/embedded/publish"
	"millrace/node"
)

// siteFlags select the node that a command about sites talks to.
type siteFlags struct {
	adminFlags
	// URL is as --admin, for machines that have no configuration file. SiteToken is as --token, and only with URL:
	// elsewhere people call that of the mesh so.
	URL       string `hidden:"" env:"MILLRACE_URL"`
	SiteToken string `hidden:"" env:"MILLRACE_TOKEN"`
}

// endpoints returns where the API may be.
func (f siteFlags) endpoints(out console) ([]endpoint, error) {
	if f.Admin == "" && f.URL != "" {
		return []endpoint{{f.URL, cmp.Or(f.Token, f.SiteToken)}}, nil
	}
	return f.find(out)
}

// use calls do with a client of the first endpoint that can be reached.
func (f siteFlags) use(out console, do func(*publish.Client) error) error {
	endpoints, err := f.endpoints(out)
	if err != nil {
		return err
	}
	var unreachable error
	for _, at := range endpoints {
		err := f.useOne(at, out, do)
		if !errors.Is(err, publish.ErrUnreachable) {
			return err
		}
		unreachable = errors.Join(unreachable, err)
	}
	return fmt.Errorf("%w\n  is it running? name another with --admin, -c or MILLRACE_URL", unreachable)
}

func (siteFlags) useOne(at endpoint, out console, do func(*publish.Client) error) error {
	client, err := publish.NewClient(publish.Config{URL: at.url, Token: at.token})
	if err != nil {
		return usageError(err.Error())
	}
	defer client.Close()
	if client.Plain() {
		fmt.Fprintf(out.stderr, "warning: the token goes to %s unencrypted: use https\n", at.url)
	}
	return do(client)
}

// by says who publishes: of a CI system whoever it works for, else the user of this process.
func by() string {
	for _, name := range []string{"GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER_ID", "CIRCLE_USERNAME"} {
		if s := os.Getenv(name); s != "" {
			return s
		}
	}
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// shortID shows an id; "none" for the zero value.
func shortID(id node.Digest) string {
	if id == (node.Digest{}) {
		return "none"
	}
	return id.Short()
}

// resolve returns the id of a deploy from its first digits; with none, what is written is "none".
func resolve(ctx context.Context, c *publish.Client, site, digits string) (node.Digest, error) {
	if digits == "none" {
		return node.Digest{}, nil
	}
	return c.Resolve(ctx, site, strings.ToLower(digits))
}

// aboutBehind tells of nodes that don't serve what is live.
func aboutBehind(out console, behind []string) {
	if len(behind) == 0 {
		return
	}
	shown := make([]string, len(behind))
	for i, name := range behind {
		shown[i] = admin.Show(name)
	}
	fmt.Fprintf(out.stdout, "behind: %s\n  what was live before is served there until they have brought it; a node "+
		"that is cut off hears of it when it is back\n", strings.Join(shown, ", "))
}
