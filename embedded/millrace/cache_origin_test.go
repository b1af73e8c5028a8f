package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/admin"
)

// versionKeys is the number of keys of the origin.
const versionKeys = 24

// versions is an origin whose keys have versions that a test raises. It answers with the version at the begin of a
// request, and often after a delay, so that responses arrive late at the caches.
type versions struct {
	server   *httptest.Server
	current  [versionKeys]atomic.Int64
	requests atomic.Int64
}

func newVersions(t *testing.T) *versions {
	t.Helper()
	v := &versions{}
	v.server = httptest.NewServer(v)
	t.Cleanup(v.server.Close)
	return v
}

// keyHost, keyPath and keyTag are how a key is requested and purged. Keys share hosts, prefixes and tags.
func keyHost(key int) string   { return fmt.Sprintf("h%d.test", key%3) }
func keyPrefix(key int) string { return fmt.Sprintf("/p%d/", key%4) }
func keyPath(key int) string   { return keyPrefix(key) + strconv.Itoa(key) }
func keyTag(key int) string    { return fmt.Sprintf("t%d", key%6) }

func keyURL(key int) string { return "http://" + keyHost(key) + keyPath(key) }

// reached returns the keys that a purge reaches.
func reached(p admin.Purge) (out []int) {
	for key := range versionKeys {
		if p.URL == keyURL(key) || p.Host == keyHost(key) || p.Tag == keyTag(key) ||
			(p.Prefix != "" && strings.HasPrefix(keyURL(key), p.Prefix)) {
			out = append(out, key)
		}
	}
	return out
}

// longKey is the key whose body is so long that it is streamed and stored in parts.
const longKey = versionKeys - 1

const longLines = 40_000

// versionBody is the body of a version: a line with key and version, many times for the long key.
func versionBody(key int, version int64) []byte {
	line := fmt.Appendf(nil, "%02d %d\n", key, version)
	if key == longKey {
		return bytes.Repeat(line, longLines)
	}
	return line
}

// readVersion returns the version in a body. It fails if the origin hasn't sent the body.
func readVersion(key int, body []byte) (int64, error) {
	line, _, _ := bytes.Cut(body, []byte("\n"))
	_, text, _ := strings.Cut(string(line), " ")
	version, err := strconv.ParseInt(text, 10, 64)
	if err == nil && !bytes.Equal(body, versionBody(key, version)) {
		err = fmt.Errorf("a body of %d bytes of key %d that begins with %q", len(body), key, line)
	}
	return version, err
}

// ServeHTTP answers with the current version.
func (v *versions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.requests.Add(1)
	key, err := strconv.Atoi(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	if err != nil || key >= versionKeys || r.URL.Path != keyPath(key) {
		http.NotFound(w, r)
		return
	}
	version := v.current[key].Load()
	wait := time.NewTimer(originDelay())
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-r.Context().Done():
		return
	}
	tag := fmt.Sprintf(`"%d"`, version)
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Cache-Tag", keyTag(key))
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(versionBody(key, version))
}

// originDelay is a few milliseconds, and sometimes so long that other nodes and purges overtake the response.
func originDelay() time.Duration {
	if rand.IntN(20) == 0 {
		return rand.N(300 * time.Millisecond)
	}
	return rand.N(8 * time.Millisecond)
}
