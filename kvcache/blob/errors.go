package blob

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of a Store. Those of a full disk match syscall.ENOSPC, those of a blob that isn't one node.ErrBlob.
var (
	// ErrDigest means that some content isn't what its digest names, or has another size.
	ErrDigest = errors.New("the content isn't what its digest names")
	// ErrMissing means that the mesh doesn't have a blob, or not whole.
	ErrMissing = errors.New("the mesh doesn't have the blob")
	// ErrNotHere means that a blob isn't on this node's disk.
	ErrNotHere = errors.New("the blob isn't on this node's disk")
	// ErrFull means that the blobs of the mesh take all the space they may (Config.StreamBytes).
	ErrFull = errors.New("the store of blobs is full")
	// ErrAway means that the mesh's store of blobs doesn't answer.
	ErrAway = errors.New("the store of blobs is away")
	// ErrClosed means that the Store is closed.
	ErrClosed = errors.New("the store of blobs is closed")
	// ErrBusy means that more is asked for at once than the node does at once.
	ErrBusy = errors.New("too many blobs are fetched at once")
)

// Codes of JetStream's errors that the client's library has no name for.
const (
	codeStoreFailed       jetstream.ErrorCode = 10077 // the stream refuses a message; also if it is full (DiscardNew)
	codeResourcesExceeded jetstream.ErrorCode = 10047 // the server or the account has no more space
	codeAccountExceeded   jetstream.ErrorCode = 10002
	codeInsufficient      jetstream.ErrorCode = 10023
)

// code returns the code of JetStream's error, or 0.
func code(err error) jetstream.ErrorCode {
	var e jetstream.JetStreamError
	if errors.As(err, &e) && e.APIError() != nil {
		return e.APIError().ErrorCode
	}
	return 0
}

// passing reports whether an error of a request may go away by itself: nobody answered, or no leader did.
func passing(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, nats.ErrConnectionReconnecting)
}
