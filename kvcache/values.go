package kvcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrNotFound means that a key has no value, or its value has expired.
var ErrNotFound = errors.New("no value under this key")

// ErrTooLarge means a key or value over the limits.
var ErrTooLarge = errors.New("a key has 1 to 1024 bytes, a value at most 512 KiB")

// Limits of an application's values.
const (
	maxValueKey = 1024
	maxValue    = 512 << 10
)

// Values is a cache for an application's values in the same two tiers as its responses. What is set on one node can be
// read on all: on the same node at once, on others within milliseconds, and never more than two seconds later. It is a
// cache: the oldest values are dropped when the bucket is full. It is safe for concurrent use.
type Values struct {
	c       *Cache
	bucket  string
	flights Flights[loaded]
	changes changes

	open  sync.Mutex // held while the bucket is opened
	ready bool       // guarded by open
}

// loaded is the result of a load.
type loaded struct {
	value []byte
	err   error
}

// Values returns the node's values. They are opened by the first use and closed with the cache.
func (c *Cache) Values() *Values { return c.values }

// Get returns the value of a key. The caller owns the slice. It fails with ErrNotFound, with ErrAway if neither memory
// nor bucket can tell, and with ErrTooLarge for a key over the limit.
func (v *Values) Get(ctx context.Context, key string) ([]byte, error) {
	if err := v.check(ctx, key, nil); err != nil {
		return nil, err
	}
	var view View
	if v.changes.current() && v.c.memory.get(valueName(key), &view) {
		defer view.Release()
		return append([]byte(nil), view.Value...), nil
	}
	return v.read(ctx, key)
}

// read reads a value from the bucket and stores it in memory. If a replica lags behind a change that this node knows,
// it asks again.
func (v *Values) read(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, valuePatience)
	defer cancel()
	name, subject := valueName(key), v.subject(key)
	for {
		msg, err := v.c.cfg.NATS.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_"+v.bucket+"."+subject, nil)
		if err != nil {
			return nil, errors.Join(ErrAway, err)
		}
		sequence, _ := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64) // 0 if there is none
		if !v.changes.isNewest(subject, sequence) && sequence > 0 {
			if pause(ctx, 2*time.Millisecond) {
				continue
			}
			return nil, ErrAway
		}
		var e Entry
		if sequence == 0 || len(msg.Data) == 0 || e.Decode(msg.Data) != nil || !equal(e.Key, name) ||
			!e.Expires.After(time.Now()) {
			return nil, ErrNotFound
		}
		v.store(name, subject, sequence, msg.Data)
		return append([]byte(nil), e.Value...), nil
	}
}

// store stores a value in memory, unless a later change is known by then.
func (v *Values) store(name []byte, subject string, sequence uint64, encoded []byte) {
	v.c.memory.put(encoded)
	if !v.changes.isNewest(subject, sequence) {
		v.c.memory.drop(name)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Set sets the value of a key for ttl; 0 means the longest time, 30 days. It returns when the bucket has the value.
func (v *Values) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := v.check(ctx, key, value); err != nil {
		return err
	}
	if ttl <= 0 || ttl > MaxKeep {
		ttl = MaxKeep
	}
	e := Entry{Key: valueName(key), Value: value, Expires: time.Now().Add(ttl)}
	return v.write(ctx, key, e.Append(nil), ttl)
}

// Delete deletes the value of a key. It is no error if there is none.
func (v *Values) Delete(ctx context.Context, key string) error {
	if err := v.check(ctx, key, nil); err != nil {
		return err
	}
	return v.write(ctx, key, nil, time.Minute)
}

// write replaces the value in the bucket, and then in this node's memory.
func (v *Values) write(ctx context.Context, key string, encoded []byte, ttl time.Duration) error {
	msg := &nats.Msg{Subject: v.subject(key), Data: encoded, Header: nats.Header{}}
	msg.Header.Set("Nats-TTL", strconv.Itoa(max(int((ttl+time.Second-1)/time.Second), 1)))
	msg.Header.Set(headerNode, v.c.cfg.Node)
	v.c.memory.drop(valueName(key))
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ack, err := v.c.bucket.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return fmt.Errorf("write a value: %w", errors.Join(ErrAway, err))
	}
	if v.changes.noteChange(msg.Subject, ack.Sequence) && encoded != nil {
		v.store(valueName(key), msg.Subject, ack.Sequence, encoded)
	}
	return nil
}

// GetOrLoad returns the value of a key, or calls load to make it. Only one load runs for a key on all nodes, while
// other callers wait for it. If load fails, all callers that waited on this node get its error, and nothing is stored.
// The load continues when its caller's context ends.
func (v *Values) GetOrLoad(ctx context.Context, key string, ttl time.Duration,
	load func(context.Context) ([]byte, error),
) ([]byte, error) {
	value, err := v.Get(ctx, key)
	if err == nil || errors.Is(err, ErrTooLarge) {
		return value, err
	}
	flight, leads := v.flights.Join(key)
	if leads {
		go v.load(context.WithoutCancel(ctx), flight, key, ttl, load)
	}
	out, ok := flight.Wait(ctx, loadPatience)
	switch {
	case ok:
		return append([]byte(nil), out.value...), out.err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, errLoadSlow
}

// GetOrLease returns the value of a key, or leaves it to the caller to make and Set it: then it fails with ErrNotFound.
// Until the lease ends, all other callers on any node wait for the value. A lease lasts at least a second.
func (v *Values) GetOrLease(ctx context.Context, key string, lease time.Duration) ([]byte, error) {
	wait := 5 * time.Millisecond
	for {
		value, err := v.Get(ctx, key)
		if !errors.Is(err, ErrNotFound) {
			return value, err
		}
		if v.lease(ctx, key, lease) {
			return nil, ErrNotFound
		}
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// lease reports whether the caller is the one who loads the key: nobody else holds a lease of it.
func (v *Values) lease(ctx context.Context, key string, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, valuePatience)
	defer cancel()
	name := valueName(key)
	name[0] = byte(SpaceValueLease)
	msg := &nats.Msg{Subject: "$KV." + v.bucket + "." + string(name), Header: nats.Header{}}
	msg.Header.Set("Nats-TTL", strconv.Itoa(max(int((d+time.Second-1)/time.Second), 1)))
	_, err := v.c.bucket.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0),
		jetstream.WithRetryAttempts(0))
	if err != nil {
		apiErr, ok := errors.AsType[*jetstream.APIError](err)
		// Without the bucket nobody can be waited for.
		return !ok || apiErr.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence
	}
	return true
}

// endLease lets the next caller load.
func (v *Values) endLease(key string) {
	name := valueName(key)
	name[0] = byte(SpaceValueLease)
	if stream, err := v.c.bucket.js.Stream(v.c.ctx, "KV_"+v.bucket); err == nil {
		// If it fails, the lease expires.
		_ = stream.Purge(v.c.ctx, jetstream.WithPurgeSubject("$KV."+v.bucket+"."+string(name)))
	}
}

func (v *Values) load(ctx context.Context, flight *Flight[loaded], key string, ttl time.Duration,
	load func(context.Context) ([]byte, error),
) {
	out := loaded{err: errLoadPanicked}
	defer func() {
		if p := recover(); p != nil {
			v.c.cfg.Log.ErrorContext(ctx, "load of a cached value panicked", "panic", fmt.Sprint(p))
		}
		flight.Finish(out)
	}()
	ctx, cancel := context.WithTimeout(ctx, loadPatience)
	defer cancel()
	// Another load may have ended meanwhile, on this node or another.
	if value, err := v.GetOrLease(ctx, key, loadPatience); err == nil {
		out = loaded{value: value}
		return
	} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrAway) {
		out = loaded{err: err}
		return
	}
	defer v.endLease(key)
	value, err := load(ctx)
	out = loaded{value, err}
	if err != nil {
		return
	}
	if err := v.Set(ctx, key, value, ttl); err != nil && !errors.Is(err, ErrAway) {
		out.err = err
	}
}

// How long a read from the bucket and a load may take.
const (
	valuePatience = 2 * time.Second
	loadPatience  = 30 * time.Second
)

var (
	errLoadSlow     = errors.New("a load of this key takes too long")
	errLoadPanicked = errors.New("a load of this key panicked")
)

func (v *Values) check(ctx context.Context, key string, value []byte) error {
	if key == "" || len(key) > maxValueKey || len(value) > maxValue {
		return ErrTooLarge
	}
	return v.openOnce(ctx)
}

// valueName returns the name of a value in both tiers. No response has a name that begins with this letter.
func valueName(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return hex.AppendEncode([]byte{byte(SpaceValue)}, sum[:])
}

func (v *Values) subject(key string) string { return "$KV." + v.bucket + "." + string(valueName(key)) }

// name returns the name of the value that a subject stands for.
func (v *Values) name(subject string) ([]byte, bool) {
	name, ok := strings.CutPrefix(subject, "$KV."+v.bucket+".")
	return []byte(name), ok && name != "" && name[0] == byte(SpaceValue)
}
