package kvcache

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// BucketName returns the name of a bucket. It is unique for each mesh on one NATS: prefix is that of the mesh's
// subjects.
func BucketName(prefix, what string) string {
	name := "millrace-" + what
	if prefix != "" {
		name = strings.ReplaceAll(strings.TrimSuffix(prefix, "."), ".", "_") + "-" + name
	}
	return name
}

// openTime is how long opening a stream may take; findTry and createTry are how long the first attempts to find and to
// create it wait. While there is no leader, JetStream doesn't answer at all, and the next leader doesn't see earlier
// requests. Both may be retried, since a stream that exists already is as good as a created one.
const (
	openTime  = 3 * time.Second
	findTry   = 200 * time.Millisecond
	createTry = 800 * time.Millisecond
)

// Resize says how OpenStream changes the size of an existing stream.
type Resize int

// The values of Resize.
const (
	SizeStays   Resize = iota
	SizeGrows          // to the configured size if that is larger
	SizeFollows        // to the configured size
)

// OpenStream opens a stream or creates it; with 0 replicas it opens a stream of other nodes, and neither creates nor
// changes it. Of an existing stream it changes only the number of replicas and, depending
// on resize, the size. Once begun it isn't ended by ctx: a server that is stopped while it creates a stream would leave
// files and goroutines behind. The error is ErrAway without a connection, or JetStream's own.
func OpenStream(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, cfg jetstream.StreamConfig,
	resize Resize,
) (jetstream.Stream, error) {
	if ctx.Err() != nil || !nc.IsConnected() {
		return nil, ErrAway
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
	defer cancel()
	stream, err := retry(ctx, findTry, func(ctx context.Context) (jetstream.Stream, error) {
		return js.Stream(ctx, cfg.Name)
	})
	if cfg.Replicas == 0 {
		return stream, err // the callers wrap it
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = retry(ctx, createTry, func(ctx context.Context) (jetstream.Stream, error) {
			return js.CreateStream(ctx, cfg)
		})
	}
	if err != nil {
		return nil, err // the callers wrap it
	}
	have := stream.CachedInfo().Config
	if resize == SizeStays || (resize == SizeGrows && cfg.MaxBytes < have.MaxBytes) {
		cfg.MaxBytes = have.MaxBytes
	}
	if have.Replicas == cfg.Replicas && have.MaxBytes == cfg.MaxBytes {
		return stream, nil
	}
	have.Replicas, have.MaxBytes = cfg.Replicas, cfg.MaxBytes
	return js.UpdateStream(ctx, have)
}

// retry calls ask until it answers or ctx ends. Each attempt waits twice as long as the one before.
func retry[T any](ctx context.Context, first time.Duration, ask func(context.Context) (T, error)) (T, error) {
	for wait := first; ; wait *= 2 {
		try, cancel := context.WithTimeout(ctx, wait)
		v, err := ask(try)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return v, err
		}
	}
}
