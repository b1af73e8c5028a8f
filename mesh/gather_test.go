package mesh_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// timedPart is a part that takes that long, and stops when ctx ends.
func timedPart(name string, d time.Duration, status int, after ...string) mesh.Part {
	return mesh.Part{
		Name: name, After: after,
		Do: func(ctx context.Context, _ func(string) *mesh.Response) (*mesh.Response, error) {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
				return &mesh.Response{Status: status, Body: []byte(name)}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
}

// The time is that of the slowest path. With limited concurrency it is that of the rounds.
func TestGatherTime(t *testing.T) {
	const second = time.Second
	var ten []mesh.Part
	for name := range strings.SplitSeq("abcdefghij", "") {
		ten = append(ten, timedPart(name, second, 200))
	}
	for name, tc := range map[string]struct {
		how   mesh.Gathering
		parts []mesh.Part
		want  time.Duration
	}{
		"none":    {mesh.Gathering{}, nil, 0},
		"at once": {mesh.Gathering{}, ten, second},
		"three":   {mesh.Gathering{Concurrency: 3}, ten, 4 * second},
		"a path": {mesh.Gathering{}, []mesh.Part{
			timedPart("a", second, 200), timedPart("b", 2*second, 200, "a"),
			timedPart("c", 2*second, 200),
		}, 3 * second},
		"given later": {
			mesh.Gathering{},
			[]mesh.Part{timedPart("b", 2*second, 200, "a"), timedPart("a", second, 200)},
			3 * second,
		},
		"after one that failed": {
			mesh.Gathering{},
			[]mesh.Part{
				timedPart("a", second, 500), timedPart("b", 5*second, 200, "a"),
				timedPart("c", 5*second, 200, "b"),
			},
			second,
		},
		"enough": {
			mesh.Gathering{Enough: func(_ []mesh.PartResult, last int) bool { return last == 1 }},
			[]mesh.Part{timedPart("a", 9*second, 200), timedPart("b", 2*second, 200)},
			2 * second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				results := mesh.Gather(t.Context(), tc.how, tc.parts)
				if took := time.Since(began); took != tc.want {
					t.Errorf("it took %s, want %s", took, tc.want)
				}
				for i, r := range results {
					if r.Name != tc.parts[i].Name {
						t.Errorf("result %d is of %s, want %s", i, r.Name, tc.parts[i].Name)
					}
				}
			})
		})
	}
}

// An error only affects its part, and panics are caught. An unfinished part has neither response nor error. Nothing
// runs afterwards.
func TestGatherResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		broken := errors.New("broken")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		results := mesh.Gather(ctx, mesh.Gathering{}, []mesh.Part{
			timedPart("fine", time.Second, 204),
			timedPart("bad", time.Second, 404),
			{Name: "error", Do: func(context.Context, func(string) *mesh.Response) (*mesh.Response, error) {
				return nil, broken
			}},
			{Name: "panic", Do: func(context.Context, func(string) *mesh.Response) (*mesh.Response, error) {
				panic("oops")
			}},
			{Name: "late", Do: func(ctx context.Context, _ func(string) *mesh.Response) (*mesh.Response, error) {
				<-ctx.Done()
				ended.Store(true)
				return nil, ctx.Err()
			}},
			timedPart("never", 0, 200, "late"),
			timedPart("pity", 0, 200, "error"),
			{
				Name: "earlier", After: []string{"fine"},
				Do: func(_ context.Context, earlier func(string) *mesh.Response) (*mesh.Response, error) {
					if earlier("bad") != nil {
						t.Error("a part sees one that it doesn't come after")
					}
					return &mesh.Response{Status: earlier("fine").Status}, nil
				},
			},
		})
		ok := map[string]bool{"fine": true, "earlier": true}
		codes := map[string]node.Code{"panic": node.CodeInternal, "pity": node.CodeUpstream}
		for _, r := range results {
			if r.OK() != ok[r.Name] {
				t.Errorf("%s: %+v", r.Name, r)
			}
			if code := codes[r.Name]; code != "" && node.CodeOf(r.Err) != code {
				t.Errorf("%s: %v, want %s", r.Name, r.Err, code)
			}
			if unknown := r.Response == nil && r.Err == nil; unknown != (r.Name == "late" || r.Name == "never") {
				t.Errorf("%s: %+v", r.Name, r)
			}
		}
		if !ended.Load() {
			t.Error("a part runs on")
		}
	})
}
