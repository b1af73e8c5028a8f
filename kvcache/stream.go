package kvcache

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// BucketName names a bucket. It is unique for each mesh on one NATS: prefix is that of the mesh's subjects.
func BucketName(prefix, what string) string {
	name := "millrace-" + what
	if prefix != "" {
		name = strings.ReplaceAll(strings.TrimSuffix(prefix, "."), ".", "_") + "-" + name
	}
	return name
}

// openTime bounds the opening of a stream, and the others the first question for it, and for making it: while nobody
// leads, JetStream doesn't answer at all, and the leader that comes a moment later knows of no question that was put
// before. Both may be asked again, since a stream that is there already is as good as one that was made.
const (
	openTime  = 3 * time.Second
	findFirst = 200 * time.Millisecond
	makeFirst = 800 * time.Millisecond
)

// Resize says what becomes of the size of a stream that is there already. See the constants.
type Resize int

// The values of Resize.
const (
	SizeStays   Resize = iota
	SizeGrows          // to what is asked for, if that is more
	SizeFollows        // becomes what is asked for
)

// OpenStream finds a stream or makes it. Of one that is there only the number of replicas is brought in line, and as
// resize says the size. It isn't ended by ctx once it has begun, so that nobody stops a server which is still making a
// stream: that would leave files and goroutines behind. The error is ErrAway without a connection, or JetStream's own.
func OpenStream(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, cfg jetstream.StreamConfig,
	resize Resize,
) (jetstream.Stream, error) {
	if ctx.Err() != nil || !nc.IsConnected() {
		return nil, ErrAway
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
	defer cancel()
	stream, err := inTries(ctx, findFirst, func(ctx context.Context) (jetstream.Stream, error) {
		return js.Stream(ctx, cfg.Name)
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = inTries(ctx, makeFirst, func(ctx context.Context) (jetstream.Stream, error) {
			return js.CreateStream(ctx, cfg)
		})
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // the callers say what it was for
	}
	have := stream.CachedInfo().Config
	if resize == SizeStays || (resize == SizeGrows && cfg.MaxBytes < have.MaxBytes) {
		cfg.MaxBytes = have.MaxBytes
	}
	if have.Replicas == cfg.Replicas && have.MaxBytes == cfg.MaxBytes {
		return stream, nil
	}
	have.Replicas, have.MaxBytes = cfg.Replicas, cfg.MaxBytes
	return js.UpdateStream(ctx, have) //nolint:wrapcheck // see above
}

// inTries asks until there is an answer or ctx ends. Each try waits twice as long as the one before.
func inTries[T any](ctx context.Context, first time.Duration, ask func(context.Context) (T, error)) (T, error) {
	for wait := first; ; wait *= 2 {
		try, cancel := context.WithTimeout(ctx, wait)
		v, err := ask(try)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return v, err
		}
	}
}
