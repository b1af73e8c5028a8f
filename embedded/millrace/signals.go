package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// signalError is the cause of a command's context that a signal has ended.
type signalError struct{ signal os.Signal }

// Error names the signal.
func (a signalError) Error() string { return "asked to end by signal: " + a.signal.String() }

// signals handles the signals that ask a command to end. The first ends the command's context. The second closes again,
// if the command has called hold. Any further one ends the process at once.
type signals struct {
	came    chan os.Signal
	again   chan struct{} // closed by the second signal
	held    atomic.Bool   // set by hold
	stopped chan struct{} // closed by stop
	ended   chan struct{} // closed when watch returns
}

// watchSignals starts to listen for signals, until stop. Once a signal has arrived, the cause of the context is an
// signalError.
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

// watch waits for the signals.
func (s *signals) watch(cancel context.CancelCauseFunc) {
	defer close(s.ended)
	defer signal.Stop(s.came) // further signals end the process
	select {
	case sig := <-s.came:
		cancel(signalError{sig})
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

// hold says that the command handles the second signal.
func (s *signals) hold() { s.held.Store(true) }

// stop stops listening and ends the context.
func (s *signals) stop() {
	close(s.stopped)
	<-s.ended
}

// endedBy returns the signal that ended the context; nil if something else did.
func endedBy(ctx context.Context) os.Signal {
	if a, ok := errors.AsType[signalError](context.Cause(ctx)); ok {
		return a.signal
	}
	return nil
}
