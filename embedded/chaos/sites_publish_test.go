//go:build system

package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sitePublish measures the command publish on three nodes: many files, a few changed ones, and one large file; how long
// it takes until all nodes serve them, and how much memory the nodes and the command need. It asserts that all nodes
// have everything.
func sitePublish(t *testing.T, long bool) (seen string) {
	t.Helper()
	type shape struct {
		what  string
		files int
		bytes int
	}
	shapes := []shape{{"200 files of 5 MB", 200, 5 << 20}, {"one file of 20 MB", 1, 20 << 20}}
	if long {
		shapes = []shape{
			{"2,000 files of 50 MB", 2000, 50 << 20}, {"one file of 500 MB", 1, 500 << 20},
			{"20,000 files of 90 MB", 20_000, 90 << 20}, {"100,000 files of 100 MB", 100_000, 100 << 20},
		}
	}
	var out []string
	for _, s := range shapes {
		c := startThree(t, siteRoutes)
		dir := t.TempDir()
		random := rand.NewChaCha8([32]byte{1})
		writeRandom(t, dir, random, s.files, s.bytes)
		first := publishByCommand(t, c, dir)
		for i := range max(s.files/100, 1) { // one in a hundred changes
			name := filepath.Join(dir, fmt.Sprintf("d%d", i*100%97), fmt.Sprintf("f%d.bin", i*100))
			if err := os.WriteFile(name, randomBytes(random, s.bytes/s.files), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text := fmt.Sprintf("%s: %s", s.what, first)
		if s.files > 1 {
			text += fmt.Sprintf("; with 1 %% changed: %s", publishByCommand(t, c, dir))
		}
		t.Log(text)
		out = append(out, text)
		for _, n := range c.nodes {
			n.stop()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(out, "; ")
}

func randomBytes(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	_, _ = r.Read(b) // never fails
	return b
}

// writeText writes one file.
func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeRandom writes files that can't be compressed, in folders below dir.
func writeRandom(t *testing.T, dir string, r *rand.ChaCha8, files, bytes int) {
	t.Helper()
	for i := range files {
		folder := filepath.Join(dir, fmt.Sprintf("d%d", i%97))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(folder, fmt.Sprintf("f%d.bin", i))
		if err := os.WriteFile(name, randomBytes(r, bytes/files), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// published is what one run of the command needed.
type published struct {
	took    time.Duration
	command int64    // the most memory of the command, in bytes
	nodes   [3]int64 // likewise of each node
}

func (p published) String() string {
	return fmt.Sprintf("%s, command %d MiB, nodes %d, %d and %d MiB", p.took.Round(time.Millisecond), p.command>>20,
		p.nodes[0]>>20, p.nodes[1]>>20, p.nodes[2]>>20)
}

// publishByCommand publishes a folder with the command, through the first node.
func publishByCommand(t *testing.T, c *cluster, dir string) (p published) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.cmd.Process.Pid), []byte("5"), 0) // VmHWM begins again
	}
	cmd := exec.CommandContext(t.Context(), path, "publish", dir, "--site", "www", "--admin", c.nodes[0].admin, "--json")
	var answer bytes.Buffer
	cmd.Stdout = &answer
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.command, err = memoryUntil(cmd.Process.Pid, ended)
	p.took = time.Since(begun)
	var result struct{ Behind []string }
	if err == nil {
		err = json.Unmarshal(answer.Bytes(), &result)
	}
	if err != nil || len(result.Behind) > 0 {
		t.Fatalf("publish: %v, behind %v: %.500s", err, result.Behind, answer.String())
	}
	for i, n := range c.nodes {
		if p.nodes[i] = mostMemory(n.cmd.Process.Pid); p.nodes[i] == 0 {
			t.Fatal("the kernel doesn't say how much memory a node had")
		}
	}
	return p
}

// memoryUntil returns the most memory of a process until it has ended, and its error. The usage that the kernel reports
// at the end is no less than that of the process that started it.
func memoryUntil(pid int, ended <-chan error) (most int64, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return most, err
		case <-tick.C:
			most = max(most, mostMemory(pid))
		}
	}
}

// mostMemory returns the most memory that a process had since its count began, in bytes; 0 if it isn't known.
func mostMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}
