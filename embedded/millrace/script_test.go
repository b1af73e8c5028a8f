package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"millrace/node/nodetest"
	"millrace/node/state"
)

// TestMain makes the test binary the millrace command: under that name for scripts, and with beMillrace set for tests
// that need a process of their own.
func TestMain(m *testing.M) {
	if os.Getenv(beMillrace) != "" {
		main()
		return
	}
	if os.Getenv(beMember) != "" {
		if err := memberMain(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			panic(err)
		}
		return
	}
	testscript.Main(m, map[string]func(){"millrace": main, "millrace-newer": makeNewer})
}

// makeNewer creates a data directory of a future version.
func makeNewer() {
	ctx := context.Background()
	dir := os.Args[1]
	path := filepath.Join(dir, "node.db")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var s *state.Store
		if s, err = state.New(state.Config{Path: path}); err == nil {
			err = errors.Join(s.Open(ctx), s.Close())
		}
	}
	if err == nil {
		var db *sql.DB
		if db, err = sql.Open("sqlite3", path); err == nil {
			_, err = db.ExecContext(ctx, "PRAGMA user_version = 9999")
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		panic(err)
	}
}

const beMillrace = "TEST_BE_MILLRACE"

// TestScripts runs testdata/script: command lines with their exit codes and messages.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "freeport": scriptFreePort, "takeport": scriptTakePort, "get": scriptGet,
			"page": scriptPage,
		},
	})
}

// scriptCode runs a command and checks its exit code: code 3 millrace check.
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v: %v", args[1:], err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%v exits with %d, want %s\n%s%s", args[1:], got, args[0], ts.ReadFile("stdout"),
			ts.ReadFile("stderr"))
	}
}

// scriptFreePort sets variables to free ports: freeport EDGE ADMIN.
func scriptFreePort(ts *testscript.TestScript, _ bool, names []string) {
	ports, err := nodetest.FindPorts(len(names))
	ts.Check(err)
	for i, name := range names {
		_, port, err := net.SplitHostPort(ports[i])
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// scriptTakePort sets a variable to a port that this test occupies until the script ends.
func scriptTakePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// scriptPage asks once as a browser that navigates does: page URL 200 REGEXP.
func scriptPage(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	req.Header.Set("Accept", "text/html,*/*;q=0.8")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[1] || !regexp.MustCompile(args[2]).Match(body) {
		ts.Fatalf("%s answers a browser %s %s, want %s", args[0], resp.Status, body, args[1:])
	}
}

// scriptGet retries until status and body match, since a started server needs a moment: get 200 URL REGEXP.
func scriptGet(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile(args[2])
	ts.Check(err)
	last := "no answer"
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get(args[1]); err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if last = strconv.Itoa(resp.StatusCode) + " " + string(body); strconv.Itoa(resp.StatusCode) == args[0] &&
				want.Match(body) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			ts.Fatalf("%s answers %s, want %s %s", args[1], last, args[0], want)
		}
	}
}
