//go:build system

// The system tests run the real command against real programs: an Express application behind millrace proxy, and
// members written in JavaScript and Go. testdata/system-setup.sh installs what they need; nothing is skipped.
package main_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// moduleRoot is the root of the module.
const moduleRoot = "../.."

// patience bounds every wait.
const patience = 30 * time.Second

// eventually polls every few milliseconds until the condition holds, and fails the test if that takes longer than
// patience.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// build compiles a command of this module and returns its path.
func build(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg)
	cmd.Dir = moduleRoot
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// process is a child process of the test.
type process struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr nodetest.Output
	exited         chan struct{} // closed when the process has ended and err is set
	err            error
}

// start runs a program in a directory. At the end of the test it gets SIGTERM; if it doesn't end then, it is killed and
// the test fails.
func start(t *testing.T, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(program), exited: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() { p.end(t) })
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// terminate sends SIGTERM. A process that has ended is ignored.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal %s: %v", p.name, err)
	}
}

// end terminates the process and waits for it.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.terminate(t)
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Errorf("%s ignores SIGTERM", p.name)
		_ = p.cmd.Process.Kill() // fails if it has ended by now
		<-p.exited
	}
	if t.Failed() {
		t.Logf("%s (%v) wrote:\n%s%s", p.name, p.err, &p.stdout, &p.stderr)
	}
}

// find waits until the process has printed a match of the expression, and returns its first group.
func (p *process) find(t *testing.T, expression string) (found string) {
	t.Helper()
	re := regexp.MustCompile(expression)
	eventually(t, p.name+" prints "+expression, func() bool {
		if m := re.FindStringSubmatch(p.stdout.String()); m != nil {
			found = m[1]
			return true
		}
		select {
		case <-p.exited:
			t.Fatalf("%s ended: %v", p.name, p.err)
		default:
		}
		return false
	})
	return found
}
