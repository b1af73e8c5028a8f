package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"millrace/embedded"
	"millrace/node"
	"millrace/node/config"
)

type proxyCmd struct {
	Targets []string `arg:"" name:"url" help:"Where your API listens: http://localhost:3000, localhost:3000 or 3000. Several share the load."`
	Listen  string   `placeholder:"ADDR" help:"Address for HTTP clients (default: 127.0.0.1:8080, or a free port)."`
	Cache   string   `placeholder:"TIME" help:"Cache responses: 'true' for what the API allows, or a time such as 1h for those that name none."`
	Limit   string   `placeholder:"N/WINDOW" help:"Limit requests per client address, such as 100/15m, 20/s or 10000/day; several with commas."`
	Expose  []string `placeholder:"NAME" help:"Serve the service NAME at /NAME; '*' for all."`
	Site    string   `placeholder:"DIR" help:"Serve the files of this folder, such as your frontend's build, and send the rest to your API. Changes show at once."`
	Lines   *bool    `negatable:"" help:"Print a line for each request (default: on a terminal)."`
	Print   bool     `help:"Print the configuration file that does the same, and exit."`
}

// Run serves the targets at every path until a signal arrives. Its data directory is temporary.
func (c *proxyCmd) Run(ctx context.Context, out console, signals *signals) (err error) {
	if c.Print {
		cfg := node.Default()
		if err := c.fill(&cfg); err != nil {
			return err
		}
		return printConfig(out, cfg)
	}
	local := localFolder{dir: c.Site, watch: true}
	if c.Site != "" {
		if err := local.check(ctx); err != nil {
			return err
		}
	}
	cfg, remove, err := temporaryConfig()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := c.fill(&cfg); err != nil {
		return err
	}
	opts := embedded.Options{Config: cfg, Log: logger(out.stderr, false, slog.LevelWarn), Version: version()}
	local.token = cfg.Admin.Token
	publishing, end := context.WithCancel(ctx)
	defer local.work.Wait()
	defer end()
	// Requests that end while the node drains are printed too.
	printing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var lines sync.WaitGroup
	defer lines.Wait()
	defer stop()
	s := serving{open: temporary(opts, c.Listen != ""), linger: cfg.Edge.Linger.Std(), out: out, signals: signals}
	s.banner = func(n *embedded.Node, ready *readiness) {
		printBanner(out.stdout, n, cfg.Node.Name, strings.Join(c.Targets, ", "), n.ClientURL(), "/", ready)
		if (c.Lines == nil && terminal(out.stdout)) || (c.Lines != nil && *c.Lines) {
			lines.Go(func() { printRequests(printing, out, n, c.only()) })
		}
		if c.Site != "" {
			local.start(publishing, out, n)
		}
	}
	return s.run(ctx)
}

// only returns the address of the target if there is just one, else "".
func (c *proxyCmd) only() string {
	if len(c.Targets) != 1 {
		return ""
	}
	_, address, _ := strings.Cut(c.Targets[0], "://")
	return address
}

// printRequests prints a line for each request until ctx ends.
func printRequests(ctx context.Context, out console, n *embedded.Node, only string) {
	var failed error
	err := n.Tail(ctx, func(event []byte) bool {
		failed = printEvent(out.stdout, event, only)
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		n.Log().WarnContext(ctx, "requests aren't printed any more", "cause", err)
	}
}

// fill adds the targets, the route and the flags to the configuration.
func (c *proxyCmd) fill(cfg *node.Config) error {
	var up node.Upstream
	up.Defaults()
	for i, raw := range c.Targets {
		var t node.UpstreamTarget
		if err := t.UnmarshalText([]byte(targetURL(raw))); err != nil {
			return usageError(err.Error())
		}
		c.Targets[i] = string(t.URL)
		up.Targets = append(up.Targets, t)
	}
	var r node.Route
	r.Defaults()
	r.Path = node.Pattern{Rest: true}
	r.To = node.Target{Kind: node.KindUpstream, Name: "api"}
	r.EncodedSlash = node.EncodedSlashKeep // as the application would get it without the proxy
	if c.Cache != "" {
		r.Cache = new(node.Cache)
		if err := r.Cache.UnmarshalText([]byte(c.Cache)); err != nil {
			return usageError("--cache: " + err.Error())
		}
	}
	for text := range strings.SplitSeq(c.Limit, ",") {
		var l node.Limit
		if text == "" {
			continue
		}
		if err := l.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return usageError("--limit: " + err.Error())
		}
		r.Limit = append(r.Limit, l)
	}
	if c.Site != "" {
		r.Try, r.To = []node.Target{{Kind: node.KindSite, Name: localSite}, r.To}, node.Target{}
	}
	cfg.Upstreams = map[string]node.Upstream{"api": up}
	cfg.Routes = []node.Route{r}
	cfg.Edge.Expose = c.Expose
	for port := 8090; c.Listen == "" && slices.ContainsFunc(up.Targets, func(t node.UpstreamTarget) bool {
		return cfg.Edge.Listen.ReachedBy(t.URL)
	}); port++ {
		cfg.Edge.Listen = node.Address("127.0.0.1:" + strconv.Itoa(port)) // the API has the default port
	}
	if c.Listen != "" {
		if err := cfg.Edge.Listen.UnmarshalText([]byte(c.Listen)); err != nil {
			return usageError("--listen: " + err.Error())
		}
	}
	if problems := cfg.Validate(); len(problems) > 0 {
		return usageError(problems[0].Message)
	}
	return nil
}

// targetURL completes a target: 3000, :3000 and localhost:3000 are HTTP on this machine.
func targetURL(s string) string {
	switch {
	case strings.Contains(s, "://"):
		return s
	case strings.Trim(s, "0123456789") == "":
		return "http://127.0.0.1:" + s
	case strings.HasPrefix(s, ":"):
		return "http://127.0.0.1" + s
	default:
		return "http://" + s
	}
}

func printConfig(out console, cfg node.Config) error {
	text, err := config.Marshal(&cfg)
	if err == nil {
		_, err = out.stdout.Write(text)
	}
	if err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return nil
}
