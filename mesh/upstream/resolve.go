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

// Resolver looks host names up. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// lookupWithin bounds one look-up.
const lookupTimeout = 2 * time.Second

// mostAddresses bounds the addresses of one name that are used.
const maxAddresses = 64

// names is what the host names of an upstream's targets were resolved to.
type names map[string][]netip.Addr

// or takes from before what a look-up didn't find: a name that can't be looked up at this moment keeps its addresses.
func (n names) withFallback(before names) names {
	out := maps.Clone(before)
	if out == nil {
		out = names{}
	}
	maps.Copy(out, n)
	return out
}

// of leaves the names that a configuration has.
func (n names) only(cfg node.Upstream) names {
	out := names{}
	for _, host := range hosts(cfg) {
		if addrs := n[host]; len(addrs) > 0 {
			out[host] = addrs
		}
	}
	return out
}

// hosts lists the names that are to be looked up.
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

// lookUp resolves host names, all at the same time, and leaves out those that can't be resolved at this moment.
func (c Config) lookUp(ctx context.Context, hosts []string) names {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	all := make([][]netip.Addr, len(hosts))
	var looking sync.WaitGroup
	for i, host := range hosts {
		looking.Go(func() {
			addrs, err := c.Resolver.LookupNetIP(ctx, "ip", host)
			if all[i] = usable(addrs); err != nil || len(all[i]) == 0 {
				c.Log.WarnContext(ctx, "target's name can't be resolved", "host", host, "cause", err)
			}
		})
	}
	looking.Wait()
	found := names{}
	for i, host := range hosts {
		if len(all[i]) > 0 {
			found[host] = all[i]
		}
	}
	return found
}

// usable gives the IPv4 addresses, or the others, if there are no IPv4 addresses or this host has no way to them: few
// hosts have both ways. They are ordered, so that two answers can be compared.
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

// routed reports whether this host knows a way to an address. Nothing is sent.
func routed(addr netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9)))
	if err != nil {
		return false
	}
	_ = c.Close() // it was never used
	return true
}

// text writes an address; empty for none.
func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// hostName gives the name to look up; empty for an address, and for localhost: an application may listen on either of
// its addresses, which only trying tells.
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
	tick := time.NewTicker(time.Second) // a reload may say at any time that they be looked up more often
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

// tickSlack is how much early a tick may come.
const tickSlack = 100 * time.Millisecond

// renamed gives the upstream its targets' new addresses, unless it was configured anew meanwhile.
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
