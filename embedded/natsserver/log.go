package natsserver

import (
	"fmt"
	"log/slog"
)

// logger brings the server's messages into slog. What the server notices is detail to an operator of Millrace.
type logger struct {
	log     *slog.Logger
	fatal   chan<- string // gets the first fatal message
	refused func(Refusal)
}

func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("nats", "text", fmt.Sprintf(format, v...))
}

func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("nats", "text", fmt.Sprintf(format, v...))
}

func (l *logger) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if r, ok := parseRefusal(text); ok {
		l.refused(r)
		return
	}
	l.log.Warn("nats", "text", text)
}

func (l *logger) Debugf(string, ...any) {}
func (l *logger) Tracef(string, ...any) {}

// Fatalf must not end the process, as the server's own logger would.
func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error("nats", "text", text)
	select {
	case l.fatal <- text:
	default:
	}
}
