package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/site"
)

// randomFolder returns a folder of few files whose contents other folders have too.
func randomFolder(r *rand.Rand) folder {
	out := folder{"/index.html": fmt.Sprint("page ", r.IntN(8))}
	for i := range 4 {
		if text := fmt.Sprint("text ", i, " ", r.IntN(6)); r.IntN(10) > 0 {
			out[fmt.Sprintf("/assets/f%d-0123abcd.txt", i)] = text
		} else {
			out["/large.bin"] = strings.Repeat(text+"\n", 70_000)
		}
	}
	return out
}

// inStream returns the digests of the blobs that the mesh has whole. Unlike blob.Store.Missing it keeps none of them
// from being collected.
func (n *testNode) inStream(ctx context.Context) (map[string]bool, error) {
	js, err := jetstream.New(n.conn.NATS())
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, "millrace-blobs")
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("blob.*.0"))
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for subject := range info.State.Subjects {
		out[strings.TrimSuffix(strings.TrimPrefix(subject, "blob."), ".0")] = true
	}
	return out, nil
}

// lacks returns the blobs of what is live of a site, and of its previews, that the mesh lacks.
func (n *testNode) lacks(ctx context.Context, name string) (out []string, err error) {
	list := func() (out map[node.Digest]bool) {
		out = map[node.Digest]bool{}
		sums, failed := n.List(ctx)
		for _, sum := range sums {
			if sum.Site == name {
				out[sum.Live] = true
			}
		}
		err = errors.Join(err, failed)
		return out
	}
	before := list()
	have, failed := n.inStream(ctx)
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	for id := range list() {
		if id == (node.Digest{}) || !before[id] { // live before and after, so it was all the time, or twice
			continue
		}
		data, err := n.Manifest(ctx, name, id)
		if err != nil {
			return nil, fmt.Errorf("%s is live: %w", id, err)
		}
		m, err := site.Decode(data)
		if err != nil {
			return nil, err
		}
		for _, b := range append(m.Blobs(), node.Blob{Digest: id}) {
			if !have[b.Digest.String()] {
				out = append(out, b.Digest.String())
			}
		}
	}
	return out, nil
}

// Two publishers at once, one that dies half-way, rollbacks, the end of a site, and the removal of what nobody needs,
// on three nodes: no blob that a live deploy names is ever missing, neither in the mesh nor on a node that serves it.
func TestBeside(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	for i := range c.nodes {
		c.reopen(i, func() {
			c.set = func(s *deploy.Store) { s.SetGrace(3 * time.Second); s.SetLeave(1500 * time.Millisecond) }
		})
	}
	c.nodes[0].publish(t, "www", first)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	var running sync.WaitGroup
	for i := range 2 {
		running.Go(func() { publishRandomly(ctx, t, c.nodes[i], rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	var freed int64
	running.Go(func() {
		one := node.Site{Keep: node.SiteKeep{Deploys: 1}}
		keep := map[string]node.Site{"www": one, "tmp": one}
		for ctx.Err() == nil {
			_, err := c.nodes[2].Prune(ctx, keep)
			bytes, failed := c.nodes[2].Collect(ctx)
			freed += bytes
			for _, n := range c.nodes {
				_, swept := n.Sweep(ctx)
				failed = errors.Join(failed, swept)
			}
			if err = errors.Join(err, failed); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	checks := 0
	for ctx.Err() == nil {
		lacks, err := c.nodes[2].lacks(ctx, "www")
		if ctx.Err() == nil && (err != nil || len(lacks) > 0) {
			t.Errorf("what is live lacks %v, %v", lacks, err)
		}
		for i, n := range c.nodes {
			if lost := n.lost("www"); len(lost) > 0 {
				t.Errorf("node %d serves without %v", i, lost)
			}
		}
		checks++
	}
	running.Wait()
	t.Logf("%d checks, %d bytes were freed", checks, freed)
	if checks < 5 || freed == 0 {
		t.Error("nothing was tried")
	}
	c.nodes[0].hasRecord(t, "www")
}

// lost returns the blobs of what a node serves that aren't on its disk.
func (n *testNode) lost(name string) (out []node.Digest) {
	state := n.Site(name).State()
	if state.Live == nil {
		return nil
	}
	for _, b := range state.Live.Index.Blobs() {
		if !n.blobs.Has(b) {
			out = append(out, b.Digest)
		}
	}
	if n.Site(name).State().Live != state.Live {
		return nil
	}
	return out
}

func publishRandomly(ctx context.Context, t *testing.T, n *testNode, r *rand.Rand) {
	t.Helper()
	for ctx.Err() == nil {
		var err error
		switch what := r.IntN(12); what {
		case 0, 1, 2:
			_, err = n.Rollback(ctx, "www", node.Digest{}, "", "")
		case 3:
			sums, _ := n.List(ctx)
			for _, sum := range sums {
				if len(sum.Deploys) > 0 {
					id := sum.Deploys[len(sum.Deploys)-1].ID()
					_, err = n.Rollback(ctx, sum.Site, id, "", "")
				}
			}
		case 4:
			_, err = n.Delete(ctx, "tmp", "")
		default:
			name := "www"
			if what == 5 {
				name = "tmp"
			}
			err = publishOnce(ctx, t, n, name, randomFolder(r), what == 6)
		}
		_, lost := errors.AsType[*deploy.LostRaceError](err)
		_, missing := errors.AsType[*deploy.MissingError](err)
		expected := lost || missing || errors.Is(err, deploy.ErrUnknownDeploy) || errors.Is(err, deploy.ErrUnknownSite)
		if err != nil && !expected && ctx.Err() == nil {
			t.Error(err)
		}
	}
}

// publishOnce publishes a folder, or dies before it has sent everything.
func publishOnce(ctx context.Context, t *testing.T, n *testNode, name string, f folder, dies bool) error {
	t.Helper()
	manifest, blobs := f.manifest(t)
	begun, err := n.Begin(ctx, name, manifest)
	if err != nil {
		return err
	}
	for i, d := range begun.Missing {
		if dies && i > 0 {
			return nil
		}
		if err := n.Receive(ctx, name, d, int64(len(blobs[d])), strings.NewReader(blobs[d])); err != nil {
			return err
		}
	}
	_, err = n.Publish(ctx, name, deploy.Publication{ID: begun.ID}, nil)
	return err
}
