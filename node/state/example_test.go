package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"millrace/node/state"
)

// A node opens its state first, reports if the old file had to be set aside, and falls back on the last good
// configuration if it gets none from the cluster.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "millrace")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	s, err := state.New(state.Config{Path: filepath.Join(dir, "node.db")})
	if err != nil {
		panic(err)
	}
	if err := s.Open(ctx); err != nil {
		panic(err) // errors.Is(err, state.ErrInUse), ErrNewer, ErrForeign
	}
	defer s.Close()
	fmt.Fprintf(os.Stdout, "set aside: %q\n", s.SetAside())

	_, err = s.LastConfig(ctx)
	fmt.Fprintln(os.Stdout, "first start:", errors.Is(err, state.ErrNotFound))

	saved, err := s.SaveConfig(ctx, "version: 1\n", "millrace.yaml")
	if err != nil {
		panic(err)
	}
	if err := s.Record(ctx, "config_applied", fmt.Sprint("revision ", saved.Revision)); err != nil {
		panic(err)
	}
	events, err := s.Events(ctx, 10)
	if err != nil {
		panic(err)
	}
	for _, e := range events {
		fmt.Fprintln(os.Stdout, e.Seq, e.Kind, e.Detail)
	}
	// Output:
	// set aside: ""
	// first start: true
	// 1 config_applied revision 1
}
