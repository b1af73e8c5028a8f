package upstream

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"millrace/node"
)

// Resolver looks host names up. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// lookupWithin bounds one look-up.
const lookupWithin = 2 * time.Second

// mostAddresses bounds the addresses of one name that are used.
const mostAddresses = 64

// names is what the host names of an upstream's targets were resolved to.
type names map[string][]netip.Addr

// lookUp resolves the host names of the targets. A name that can't be looked up at this moment keeps its addresses.
func (u *Upstream) lookUp(ctx context.Context, targets []node.UpstreamTarget, before names) names {
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	found := names{}
	for _, t := range targets {
		host := hostName(t.URL)
		if host == "" || found[host] != nil {
			continue
		}
		addrs, err := u.resolver.LookupNetIP(ctx, "ip", host)
		if addrs = usable(addrs); err != nil || len(addrs) == 0 {
			u.log.WarnContext(ctx, "target's name can't be resolved", "host", host, "cause", err)
			addrs = before[host]
		}
		if len(addrs) > 0 {
			found[host] = addrs
		}
	}
	return found
}

// usable gives the IPv4 addresses, or if there are none the others: a host without IPv6 can't reach those. They are ordered, so that two answers can be
// compared.
func usable(addrs []netip.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	if len(v4) == 0 {
		v4 = v6
	}
	slices.SortFunc(v4, netip.Addr.Compare)
	v4 = slices.Compact(v4)
	return v4[:min(len(v4), mostAddresses)]
}

// hostName gives the name to look up; empty for an address, and for localhost: an application may listen on either of its addresses, which only trying
// tells.
func hostName(target node.BaseURL) string {
	u, err := url.Parse(string(target))
	if err != nil {
		return ""
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return ""
	}
	return host
}

// resolve looks the names up again and again until ctx ends, and changes the targets when they have other addresses.
func (u *Upstream) resolve(ctx context.Context) {
	timer := time.NewTimer(u.resolveEvery())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if s := u.state.Load(); s.cfg.Resolve > 0 {
			if found := u.lookUp(ctx, s.cfg.Targets, s.names); ctx.Err() == nil && !reflect.DeepEqual(found, s.names) {
				u.renamed(s, found)
			}
		}
		timer.Reset(u.resolveEvery())
	}
}

func (u *Upstream) resolveEvery() time.Duration {
	if d := u.state.Load().cfg.Resolve.Std(); d > 0 {
		return d
	}
	return time.Second // until a reload turns it on
}

// renamed gives the upstream its targets' new addresses, unless it was configured anew meanwhile.
func (u *Upstream) renamed(s *state, found names) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state.Load() != s {
		return
	}
	if err := u.change(s.cfg, found); err != nil {
		u.log.Error("targets can't be changed", "cause", err)
	}
}
