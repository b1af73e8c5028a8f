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

// openTime bounds the opening of a stream.
const openTime = 3 * time.Second

// Resize says what becomes of the size of a stream that is there already. See the constants.
type Resize int

// The values of Resize.
const (
	SizeStays   Resize = iota
	SizeGrows          // to what is asked for, if that is more
	SizeFollows        // becomes what is asked for
)

// OpenStream finds a stream or makes it. Of one that is there only the number of replicas is brought in line, and as
// resize says the size. It isn't ended by
// ctx once it has begun, so that nobody stops a server which is still making a stream: that would leave files and goroutines behind. The error is
// ErrAway without a connection, or JetStream's own.
func OpenStream(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, cfg jetstream.StreamConfig,
	resize Resize,
) (jetstream.Stream, error) {
	if ctx.Err() != nil || !nc.IsConnected() {
		return nil, ErrAway
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
	defer cancel()
	stream, err := js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, cfg)
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
