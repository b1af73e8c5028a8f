package embedded_test

import (
	"strings"
	"testing"

	"millrace/node/nodetest"
)

const cachedYAML = `routes:
  - path: /*
    cache: 1h
    respond:
      status: 200
      body: ok
`

// A configuration that may need more memory than the process may use is reported with numbers and advice, in the log
// and in degraded, at the start and by a reload. Default sizes fit.
func TestScarceMemoryIsReported(t *testing.T) {
	opts, path := settings(t, edgeYAML+cachedYAML+"cache:\n  memory: 1GiB\n")
	out := &textLog{}
	opts.Log, opts.Memory = out.logger(), 400<<20
	n := open(t, opts)
	nodetest.Eventually(t, "the node is ready all the same", n.Ready)
	degraded := func() string { return strings.Join(n.Status().Degraded, "\n") }
	for where, text := range map[string]string{"log": out.String(), "degraded": degraded()} {
		for _, want := range []string{"1152 MiB for cache.memory", "leaves it 400 MiB", "set cache.memory to "} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s doesn't say %q: %s", where, want, text)
			}
		}
	}
	write(t, path, base(t, t.TempDir())+edgeYAML+cachedYAML)
	done, err := n.Reload(t.Context())
	if err != nil || strings.Contains(strings.Join(done.Warnings, "")+degraded(), "memory") {
		t.Errorf("with the default: %v, %q, %q", err, done.Warnings, degraded())
	}
	write(t, path, base(t, t.TempDir())+edgeYAML+"  max_buffered: 256MiB\n"+cachedYAML)
	done, err = n.Reload(t.Context())
	if err != nil || !strings.Contains(strings.Join(done.Warnings, ""), "1280 MiB for 5 times edge.max_buffered") {
		t.Errorf("with larger buffers: %v, %q", err, done.Warnings)
	}
}

// Default sizes depend on the memory that the process may use.
func TestDefaultsFollowMemory(t *testing.T) {
	opts, _ := settings(t, edgeYAML+cachedYAML)
	opts.Memory = 256 << 20
	n := open(t, opts)
	st := n.Status()
	if got := st.Cache.MemoryMax; got > 64<<20 || got < 50<<20 {
		t.Errorf("in 256 MiB the cache may have %d MiB", got>>20)
	}
	if text := strings.Join(st.Degraded, "\n"); strings.Contains(text, "memory") {
		t.Errorf("the defaults are too much: %s", text)
	}
}
