package bench_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"millrace/edge"
	"millrace/edge/site"
	"millrace/embedded"
	"millrace/embedded/natsserver"
	"millrace/kvcache/blob"
	"millrace/mesh"
	"millrace/node"
	rules "millrace/node/site"
)

func init() { roles["sitegateway"] = siteGateway }

// measuredSite is a site with one deploy, whose files are in a store of this process.
type measuredSite struct {
	blobs *blob.Store
	state site.State
}

func (s *measuredSite) Site(string) site.Site        { return s }
func (s *measuredSite) State() *site.State           { return &s.state }
func (s *measuredSite) File(b node.Blob) site.File   { return s.blobs.File(b) }
func (s *measuredSite) Preview(string) (host string) { return "" }

// siteGateway is an edge that serves a folder at all paths. args are its data directory and the folder.
func siteGateway(ctx context.Context, args []string) (string, error) {
	embedded.TuneGC() // as the millrace command does
	log := slog.New(slog.DiscardHandler)
	s, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: filepath.Join(args[0], "nats"), Listen: "127.0.0.1:0", MemberToken: "token-for-tests-only",
		Log: log,
	})
	if err == nil {
		err = s.Open(ctx)
	}
	if err != nil {
		return "", err
	}
	user, password := s.NodeCredential()
	conn, err := mesh.New(mesh.Config{
		Local: node.LocalAuto, Name: "n1", InProcess: s, User: user, Password: password, Interest: s, Log: log,
	})
	if err == nil {
		err = conn.Open(ctx)
	}
	if err != nil {
		return "", err
	}
	measured := &measuredSite{}
	measured.blobs, err = blob.New(blob.Config{
		Dir: filepath.Join(args[0], "blobs"), NATS: conn.NATS(), Memory: 64 << 20, Log: log,
	})
	if err == nil {
		err = measured.blobs.Open(ctx)
	}
	if err == nil {
		err = measured.publish(ctx, args[1])
	}
	if err != nil {
		return "", err
	}
	return serveSite(ctx, conn, measured, log)
}

// publish makes the folder live.
func (s *measuredSite) publish(ctx context.Context, folder string) error {
	m := &rules.Manifest{Version: 1, Files: map[string]rules.File{}}
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return err
		}
		b, err := s.blobs.PutBytes(ctx, content)
		if err != nil {
			return err
		}
		m.Files["/"+f.Name()] = rules.File{Blob: b}
	}
	data, err := rules.Encode(m)
	if err != nil {
		return err
	}
	id := node.DigestOf(data)
	ix, err := rules.NewIndex(id, m, rules.Options{})
	s.state.Live = &site.Deploy{ID: id, Index: ix}
	return err
}

// serveSite opens the edge.
func serveSite(ctx context.Context, conn *mesh.Conn, s site.Sites, log *slog.Logger) (string, error) {
	settings := node.Default().Edge
	settings.Listen = "127.0.0.1:0"
	var r node.Route
	r.Defaults()
	r.Path, r.To = node.Pattern{Rest: true}, node.Target{Kind: node.KindSite, Name: "www"}
	e, err := edge.New(edge.Config{
		Node: "n1", ID: "abc", Edge: settings, Routes: []node.Route{r}, Mesh: conn, Sites: s, Log: log,
	})
	if err == nil {
		err = e.Open(ctx)
	}
	if err != nil {
		return "", err
	}
	return "http://" + e.Addr().String(), nil
}
