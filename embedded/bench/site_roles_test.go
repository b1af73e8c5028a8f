package bench_test

import (
	"context"

	"millrace/embedded"
	"millrace/embedded/publish"
	"millrace/node"
)

func init() { roles["sitegateway"] = siteGateway }

// siteGateway is a node that serves a folder at all paths. args are its data directory and the folder.
func siteGateway(ctx context.Context, args []string) (string, error) {
	embedded.TuneGC() // as the millrace command does
	cfg := node.Default()
	cfg.Node.Data = args[0]
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	var r node.Route
	r.Defaults()
	r.Path, r.To = node.Pattern{Rest: true}, node.Target{Kind: node.KindSite, Name: "www"}
	cfg.Routes = []node.Route{r}
	n, err := embedded.New(embedded.Options{Config: cfg})
	if err != nil {
		return "", err
	}
	if err := n.Open(ctx); err != nil {
		return "", err
	}
	client, err := publish.NewClient(publish.Config{URL: n.AdminURL()})
	if err != nil {
		return "", err
	}
	defer client.Close()
	folder, err := publish.Scan(ctx, args[1], publish.ScanOptions{})
	if err != nil {
		return "", err
	}
	defer folder.Close()
	_, err = client.Publish(ctx, folder, publish.Request{Site: "www"})
	return n.EdgeURL(), err
}
