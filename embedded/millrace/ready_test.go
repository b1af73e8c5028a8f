package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// The banner shows the addresses at once. Banner and log say that the node is ready when readyz does, and not before.
func TestReadyIsReportedWhenTrue(t *testing.T) {
	files, _ := nodes(t, "http://127.0.0.1:1")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(string(text)+embeddedtest.YAML(t, `
				  - path: /limited
				    limit: 100/1h
				    respond:
				      status: 200
				`)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "run", "-c", files[0])
	var stdout, stderr nodetest.Output
	cmd.Env = append(os.Environ(), beMillrace+"=1")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := regexp.MustCompile(`admin +(http://[0-9.:]+)`)
	nodetest.Eventually(t, "the banner tells the addresses", func() bool {
		return address.MatchString(stdout.String())
	})
	admin := address.FindStringSubmatch(stdout.String())[1]
	isReady := func() bool {
		resp, err := http.Get(admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	told := func() bool {
		return strings.Contains(stdout.String(), "ready in ") || strings.Contains(stderr.String(), `"msg":"ready"`)
	}
	for range 50 { // one node of three can't store
		if told() || isReady() {
			t.Fatalf("ready alone:\n%s%s", stdout.String(), stderr.String())
		}
	}
	for _, file := range files[1:] { // all three nodes are needed to create a stream with three replicas
		startProcess(t, "run", "-c", file)
	}
	nodetest.Eventually(t, "the node is ready", isReady)
	nodetest.Eventually(t, "banner and log say so", func() bool {
		return strings.Contains(stdout.String(), "ready in ") && strings.Contains(stderr.String(), `"msg":"ready"`)
	})
}
