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

// Limits of an application's own values.
const (
	maxValueKey = 1024
	maxValue    = 512 << 10
)

// Values is a cache for an application's own values in the same two tiers as its responses: what is set on one node is
// read on all. A node reads what it has set itself; it reads what another has set within milliseconds, and never more
// than two seconds later. It is a cache: the oldest values leave when the bucket is full. It is safe for concurrent
// use.
type Values struct {
	c       *Cache
	bucket  string
	flights Flights[loaded]
	changes changes

	open  sync.Mutex // held while the bucket is opened
	ready bool       // guarded by open
}

// loaded is what one load leaves for those who waited for it.
type loaded struct {
	value []byte
	err   error
}

// Values gives the node's values. It is opened by its first use and closed with the cache.
func (c *Cache) Values() *Values { return c.values }

// Get gives the value of a key. The slice is the caller's own. It fails with ErrNotFound, with ErrAway when neither
// memory nor bucket can tell, and with ErrTooLarge for a key over the limit.
func (v *Values) Get(ctx context.Context, key string) ([]byte, error) {
	if err := v.check(ctx, key, nil); err != nil {
		return nil, err
	}
	var view View
	if v.changes.followed() && v.c.memory.get(valueName(key), &view) {
		defer view.Release()
		return append([]byte(nil), view.Value...), nil
	}
	return v.read(ctx, key)
}

// read asks the bucket and keeps what it says in memory. A replica may lag behind a change that is known already: then
// it is asked again.
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
		if !v.changes.newest(subject, sequence) && sequence > 0 {
			if pause(ctx, 2*time.Millisecond) {
				continue
			}
			return nil, ErrAway
		}
		var e Entry
		if sequence == 0 || len(msg.Data) == 0 || e.Decode(msg.Data) != nil || !same(e.Key, name) ||
			!e.Expires.After(time.Now()) {
			return nil, ErrNotFound
		}
		v.keep(name, subject, sequence, msg.Data)
		return append([]byte(nil), e.Value...), nil
	}
}

// keep puts a value into memory, unless a later change of it is known by then.
func (v *Values) keep(name []byte, subject string, sequence uint64, encoded []byte) {
	v.c.memory.put(encoded)
	if !v.changes.newest(subject, sequence) {
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

// Set gives a key a value for so long; 0 is the longest time there is, 30 days. It returns when the bucket has it.
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

// Delete removes a key. It is no error if it has no value.
func (v *Values) Delete(ctx context.Context, key string) error {
	if err := v.check(ctx, key, nil); err != nil {
		return err
	}
	return v.write(ctx, key, nil, time.Minute)
}

// write replaces what the bucket has under a key, and then what this node's memory has.
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
	if v.changes.note(msg.Subject, ack.Sequence) && encoded != nil {
		v.keep(valueName(key), msg.Subject, ack.Sequence, encoded)
	}
	return nil
}

// GetOrLoad gives the value of a key, or lets load make it: one load at a time for a key on all nodes, while others
// wait for it. An error of load is given to all who waited on this node, and nothing is kept. The load isn't ended by
// one caller's going away.
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
		return nil, ctx.Err() //nolint:wrapcheck // the caller's own
	}
	return nil, errLoadSlow
}

// GetOrLease gives the value of a key, or leaves it to the caller to make it and Set it: then it fails with
// ErrNotFound, and whoever else asks so in the meantime, on any node, waits for the value, at most until the lease
// ends. A lease has at least a second.
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
			return nil, ctx.Err() //nolint:wrapcheck // the caller's own
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// lease makes the caller the one who loads a key, unless somebody is already.
func (v *Values) lease(ctx context.Context, key string, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, valuePatience)
	defer cancel()
	name := valueName(key)
	name[0] = 'L'
	msg := &nats.Msg{Subject: "$KV." + v.bucket + "." + string(name), Header: nats.Header{}}
	msg.Header.Set("Nats-TTL", strconv.Itoa(max(int((d+time.Second-1)/time.Second), 1)))
	_, err := v.c.bucket.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(0),
		jetstream.WithRetryAttempts(0))
	if err != nil {
		apiErr, ok := errors.AsType[*jetstream.APIError](err)
		// without the bucket nobody can be waited for
		return !ok || apiErr.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence
	}
	return true
}

// unlease lets the next one load.
func (v *Values) unlease(key string) {
	name := valueName(key)
	name[0] = 'L'
	if stream, err := v.c.bucket.js.Stream(v.c.ctx, "KV_"+v.bucket); err == nil {
		// else it ends by itself
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
	// another load has ended meanwhile, on this node or another
	if value, err := v.GetOrLease(ctx, key, loadPatience); err == nil {
		out = loaded{value: value}
		return
	} else if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrAway) {
		out = loaded{err: err}
		return
	}
	defer v.unlease(key)
	value, err := load(ctx)
	out = loaded{value, err}
	if err != nil {
		return
	}
	if err := v.Set(ctx, key, value, ttl); err != nil && !errors.Is(err, ErrAway) {
		out.err = err
	}
}

// How long a read of the bucket and a load may take.
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

// valueName is the name of a value in both tiers: no response has one that begins so.
func valueName(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return hex.AppendEncode([]byte{'A'}, sum[:])
}

func (v *Values) subject(key string) string { return "$KV." + v.bucket + "." + string(valueName(key)) }

// name is the name of the value that a subject of the bucket stands for.
func (v *Values) name(subject string) ([]byte, bool) {
	name, ok := strings.CutPrefix(subject, "$KV."+v.bucket+".A")
	return []byte("A" + name), ok
}
