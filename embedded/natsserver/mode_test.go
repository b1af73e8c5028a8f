package natsserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/embedded/natsserver"
	"millrace/node/nodetest"
)

// A directory belongs to one kind of server: another kind would delete its streams.
func TestMode(t *testing.T) {
	ports := nodetest.FreePorts(t, 3)
	cluster := func(name string) *natsserver.Cluster {
		return &natsserver.Cluster{Name: name, Listen: ports[0], Peers: ports, Store: true}
	}
	alone, member := t.TempDir(), t.TempDir()
	for _, s := range []*natsserver.Server{clustered(t, "n1", alone, nil), clustered(t, "n1", member, cluster("a"))} {
		if err := errors.Join(s.Open(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		dir     string
		node    string
		cluster *natsserver.Cluster
		refused string // what the error says; empty if there is none
	}{
		"stand-alone again":         {alone, "n1", nil, ""},
		"stand-alone, other name":   {alone, "n2", nil, ""},
		"stand-alone into cluster":  {alone, "n1", cluster("a"), `"stand-alone"`},
		"member again":              {member, "n1", cluster("a"), ""},
		"member into other cluster": {member, "n1", cluster("b"), "empty directory"},
		"member alone":              {member, "n1", nil, "empty directory"},
		"member under another name": {member, "n2", cluster("a"), "set node.name back"},
		"without store":             {alone, "n1", &natsserver.Cluster{Name: "a", Listen: ports[0], Peers: ports}, ""},
	} {
		err := reopen(t, clustered(t, c.node, c.dir, c.cluster))
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.refused != "" && (!errors.Is(err, natsserver.ErrMode) || !strings.Contains(err.Error(), c.refused) ||
			!strings.Contains(err.Error(), c.dir)):
			t.Errorf("%s: got %v, want one that says %s and names the directory", name, err, c.refused)
		}
	}
}

// reopen opens and closes a server and returns the error of opening.
func reopen(t *testing.T, s *natsserver.Server) error {
	t.Helper()
	err := s.Open(t.Context())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return err
}

// Directories of earlier releases work: without a mode, with a mode that names no node, and with an empty mode file.
func TestModeOfOldDirectories(t *testing.T) {
	ports := nodetest.FreePorts(t, 1)
	member := &natsserver.Cluster{Name: "a", Listen: ports[0], Peers: ports, Store: true}
	const none = "\x00"
	for name, c := range map[string]struct {
		mode    string // what the file holds
		holds   string // a directory below jetstream
		cluster *natsserver.Cluster
		refused string // what the error says; empty if there is none
		after   string
	}{
		"no mode, alone":           {none, "MESH", nil, "", none},
		"no mode, member":          {none, "MESH", member, `"stand-alone"`, none},
		"no node, member":          {"cluster a\n", "MESH/streams/S", member, "", "cluster a node n1\n"},
		"no node, other cluster":   {"cluster b\n", "MESH/streams/S", member, `"cluster b"`, "cluster b\n"},
		"empty, nothing there":     {"", "", member, "", "cluster a node n1\n"},
		"empty, no streams":        {"", "MESH/streams", member, "", "cluster a node n1\n"},
		"empty, no streams, alone": {" \n", "MESH", nil, "", "stand-alone\n"},
		"empty, streams":           {"", "MESH/streams/S", member, "write into it what the node was", ""},
	} {
		dir := t.TempDir()
		mark := filepath.Join(dir, "mode")
		err := os.MkdirAll(filepath.Join(dir, "jetstream", c.holds), 0o700)
		if err == nil && c.mode != none {
			err = os.WriteFile(mark, []byte(c.mode), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = reopen(t, clustered(t, "n1", dir, c.cluster))
		if errors.Is(err, natsserver.ErrMode) != (c.refused != "") ||
			(err != nil && !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: got %v, want one that says %q", name, err, c.refused)
		}
		after := none
		if b, err := os.ReadFile(mark); err == nil {
			after = string(b)
		}
		if after != c.after {
			t.Errorf("%s: the mode is %q afterwards, want %q", name, after, c.after)
		}
		if _, err := os.Stat(mark + ".new"); err == nil {
			t.Errorf("%s: a temporary file is left", name)
		}
	}
}
