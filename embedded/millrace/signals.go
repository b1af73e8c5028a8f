package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// asked is why a command's context has ended: the signal that came.
type asked struct{ signal os.Signal }

// Error names the signal.
func (a asked) Error() string { return "asked to end by signal: " + a.signal.String() }

// signals tells a command of the signals that ask it to end: the first ends the command's context, the second closes
// again if the command holds it, and any further one ends the process at once.
type signals struct {
	came    chan os.Signal
	again   chan struct{} // closed by the second signal
	held    atomic.Bool
	stopped chan struct{} // closed by stop
	ended   chan struct{} // closed when watch has ended
}

// watchSignals begins to listen, until stop. The context's cause is asked once a signal has come.
func watchSignals(parent context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(parent)
	s := &signals{
		came: make(chan os.Signal, 4), again: make(chan struct{}), stopped: make(chan struct{}),
		ended: make(chan struct{}),
	}
	signal.Notify(s.came, os.Interrupt, syscall.SIGTERM)
	go s.watch(cancel)
	return ctx, s
}

// watch is the goroutine that waits for signals.
func (s *signals) watch(cancel context.CancelCauseFunc) {
	defer close(s.ended)
	defer signal.Stop(s.came) // what comes from now on ends the process
	select {
	case sig := <-s.came:
		cancel(asked{sig})
	case <-s.stopped:
		cancel(nil)
		return
	}
	if !s.held.Load() {
		return
	}
	select {
	case <-s.came:
		close(s.again)
	case <-s.stopped:
	}
}

// hold says that the command itself ends at the second signal.
func (s *signals) hold() { s.held.Store(true) }

// stop ends the listening, and the context with it.
func (s *signals) stop() {
	close(s.stopped)
	<-s.ended
}

// askedBy gives the signal that ended the context; nil if something else did.
func askedBy(ctx context.Context) os.Signal {
	if a, ok := context.Cause(ctx).(asked); ok { //nolint:errorlint // a cause is given as it is
		return a.signal
	}
	return nil
}
