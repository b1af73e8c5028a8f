package memberapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"millrace/kvcache"
	"millrace/node"
)

// Values stores values in the cache, with the semantics of kvcache.Values: the errors are kvcache.ErrNotFound and
// kvcache.ErrTooLarge.
type Values interface {
	Get(ctx context.Context, key string) ([]byte, error)
	// GetOrLease is Get for a caller that computes a missing value. Others that ask meanwhile wait, for at most lease.
	GetOrLease(ctx context.Context, key string, lease time.Duration) ([]byte, error)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Delete(ctx context.Context, key string) error
}

// values answers api.cache.get, api.cache.set and api.cache.delete: the node's cache for members.
type values struct{ cache Values }

const (
	valueTime = 5 * time.Second // bounds a request, in addition to a load that it waits for
	loadTime  = time.Minute     // bounds a load
)

// valueRequest is the payload of a request.
type valueRequest struct {
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value,omitempty"`  // set: any JSON
	Base64 *string         `json:"base64,omitempty"` // set: bytes that aren't JSON
	TTL    node.Duration   `json:"ttl,omitempty"`    // set
	Load   node.Duration   `json:"load,omitempty"`   // get: the caller computes a missing value, within this time
}

// valueReply is the payload of an answer.
type valueReply struct {
	Found  *bool           `json:"found,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
	Base64 *string         `json:"base64,omitempty"`
	Load   bool            `json:"load,omitempty"` // the caller is to compute the value and set it; others wait
	OK     bool            `json:"ok,omitempty"`
	Error  string          `json:"error,omitempty"`
	Code   node.Code       `json:"code,omitempty"`
}

func (v values) answer(ctx context.Context, op string, payload []byte) any {
	var req valueRequest
	if wrong := readPayload(payload, &req, `{"key": "user:1"}`); wrong != nil {
		return wrong
	}
	ctx, cancel := context.WithTimeout(ctx, valueTime+min(req.Load.Std(), loadTime))
	defer cancel()
	switch op {
	case "get":
		return v.get(ctx, req)
	case "set":
		return v.set(ctx, req)
	case "delete":
		return resultReply(v.cache.Delete(ctx, req.Key))
	}
	return valueReply{Error: "ask api.cache.get, api.cache.set or api.cache.delete", Code: node.CodeNotFound}
}

func (v values) get(ctx context.Context, req valueRequest) valueReply {
	var value []byte
	var err error
	if req.Load > 0 {
		value, err = v.cache.GetOrLease(ctx, req.Key, min(req.Load.Std(), loadTime))
	} else {
		value, err = v.cache.Get(ctx, req.Key)
	}
	yes, no := true, false
	switch {
	case errors.Is(err, kvcache.ErrNotFound):
		return valueReply{Found: &no, Load: req.Load > 0}
	case err != nil:
		return resultReply(err)
	case json.Valid(value):
		return valueReply{Found: &yes, Value: value}
	}
	text := base64.StdEncoding.EncodeToString(value)
	return valueReply{Found: &yes, Base64: &text}
}

func (v values) set(ctx context.Context, req valueRequest) valueReply {
	value := []byte(req.Value)
	switch {
	case req.Base64 != nil && len(req.Value) > 0, req.Base64 == nil && len(req.Value) == 0:
		return valueReply{Error: `give "value" (any JSON) or "base64" (bytes)`, Code: node.CodeInvalid}
	case req.Base64 != nil:
		b, err := base64.StdEncoding.DecodeString(*req.Base64)
		if err != nil {
			return valueReply{Error: "base64 can't be decoded", Code: node.CodeInvalid}
		}
		value = b
	}
	return resultReply(v.cache.Set(ctx, req.Key, value, req.TTL.Std()))
}

// resultReply is the answer to an operation without a value.
func resultReply(err error) valueReply {
	switch {
	case err == nil:
		return valueReply{OK: true}
	case errors.Is(err, kvcache.ErrTooLarge):
		return valueReply{Error: kvcache.ErrTooLarge.Error(), Code: node.CodeTooLarge}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return valueReply{Error: "no answer within the deadline", Code: node.CodeTimeout}
	}
	return valueReply{Error: "the store is away", Code: node.CodeUnavailable}
}
