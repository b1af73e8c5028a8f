package upstream

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/node"
)

// Resolver looks up host names. *net.Resolver implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// lookupTimeout bounds one lookup.
const lookupTimeout = 2 * time.Second

// maxAddresses bounds the addresses of one name that are used.
const maxAddresses = 64

// names maps the host names of an upstream's targets to their addresses.
type names map[string][]netip.Addr

// withFallback adds entries of before that a lookup didn't find: a name that can't be resolved now keeps its addresses.
func (n names) withFallback(old names) names {
	out := maps.Clone(old)
	if out == nil {
		out = names{}
	}
	maps.Copy(out, n)
	return out
}

// only returns the entries for the names in a configuration.
func (n names) only(cfg node.Upstream) names {
	out := names{}
	for _, host := range hosts(cfg) {
		if addrs := n[host]; len(addrs) > 0 {
			out[host] = addrs
		}
	}
	return out
}

// hosts returns the names to look up.
func hosts(cfg node.Upstream) (out []string) {
	if cfg.Resolve == 0 {
		return nil
	}
	for _, t := range cfg.Targets {
		if host := hostName(t.URL); host != "" && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// lookUp resolves host names concurrently, and leaves out those that can't be resolved now.
func (c Config) lookUp(ctx context.Context, hosts []string) names {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	all := make([][]netip.Addr, len(hosts))
	var wg sync.WaitGroup
	for i, host := range hosts {
		wg.Go(func() {
			addrs, err := c.Resolver.LookupNetIP(ctx, "ip", host)
			if all[i] = usable(addrs); err != nil || len(all[i]) == 0 {
				c.Log.WarnContext(ctx, "target's name can't be resolved", "host", host, "cause", err)
			}
		})
	}
	wg.Wait()
	found := names{}
	for i, host := range hosts {
		if len(all[i]) > 0 {
			found[host] = all[i]
		}
	}
	return found
}

// usable returns the IPv4 addresses, or the IPv6 addresses if there are no others or this host has a route only to
// them. Few hosts have both routes. The result is sorted, so that two answers can be compared.
func usable(addrs []netip.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	if len(v4) == 0 || (len(v6) > 0 && !routed(v4[0]) && routed(v6[0])) {
		v4 = v6
	}
	slices.SortFunc(v4, netip.Addr.Compare)
	v4 = slices.Compact(v4)
	return v4[:min(len(v4), maxAddresses)]
}

// routed reports whether this host has a route to an address. Nothing is sent.
func routed(addr netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9)))
	if err != nil {
		return false
	}
	_ = c.Close() // it was never used
	return true
}

// addrText returns an address as text, or "" for none.
func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// hostName returns the name to look up. It returns "" for an address, and for localhost: an application may listen on
// either of its addresses, which only connecting shows.
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

// resolve looks the names up periodically until ctx ends, and changes the targets when their addresses have changed.
func (u *Upstream) resolve(ctx context.Context) {
	tick := time.NewTicker(time.Second) // a reload may shorten the interval at any time
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := u.state.Load()
		if every := s.cfg.Resolve.Std(); every == 0 || time.Since(last) < every-tickSlack {
			continue
		}
		last = time.Now()
		found := u.set.lookUp(ctx, hosts(s.cfg)).withFallback(s.names).only(s.cfg)
		if ctx.Err() == nil && !reflect.DeepEqual(found, s.names) {
			u.changeAddresses(s, found)
		}
	}
}

// tickSlack is how much a tick may come early.
const tickSlack = 100 * time.Millisecond

// changeAddresses gives the targets their new addresses, unless the upstream was configured meanwhile.
func (u *Upstream) changeAddresses(s *state, found names) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state.Load() != s {
		return
	}
	if err := u.change(s.cfg, found); err != nil {
		u.log.Error("targets can't be changed", "cause", err)
	}
}
