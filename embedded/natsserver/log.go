package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"millrace/embedded/logs"
)

// logger writes the server's messages to slog, without secrets. The server's notices become debug messages.
type logger struct {
	log     *slog.Logger
	secrets *logs.Secrets
	fatal   chan<- string // receives the first fatal message; further ones are dropped
	refused func(Refusal)
}

// wrapLog returns a log that hides the secrets and thins out repeated lines. If log does so already, wrapLog adds the
// secrets to it. closeIt must be called.
func wrapLog(log *slog.Logger, secrets ...string) (guarded *slog.Logger, known *logs.Secrets, closeIt func()) {
	h, ok := logs.Of(log)
	closeIt = func() {} // the owner of the log closes it
	if !ok {
		h = logs.New(log.Handler())
		log, closeIt = slog.New(h), h.Close
	}
	h.Secrets().Add(secrets...)
	return log, h.Secrets(), closeIt
}

func (l *logger) Noticef(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("nats", "text", l.text(format, v))
	}
}

func (l *logger) Warnf(format string, v ...any) {
	if text := l.text(format, v); !strings.Contains(text, "default_js_domain") &&
		!strings.HasPrefix(text, "Skipping Default Domain") { // sameDomain is our own choice
		l.warn(text)
	}
}

func (l *logger) Errorf(format string, v ...any) {
	text := l.text(format, v)
	if r, ok := parseRefusal(text); ok {
		l.refused(r)
		return
	}
	l.warn(text)
}

func (l *logger) warn(text string) {
	args := []any{"text", text}
	if who := peer(text); who != "" {
		args = append(args, "peer", who)
	}
	l.log.Warn("nats", args...)
}

func (l *logger) Debugf(string, ...any) {}
func (l *logger) Tracef(string, ...any) {}

// Fatalf, unlike that of the server's own logger, doesn't end the process.
func (l *logger) Fatalf(format string, v ...any) {
	text := l.text(format, v)
	l.log.Error("nats", "text", text)
	select {
	case l.fatal <- text:
	default:
	}
}

// maxText bounds a message, in bytes. Names that clients choose become part of the server's formats, and %1000000d is
// such a name.
const maxText = 4096

// text returns a message of the server. Without values, format isn't a format.
func (l *logger) text(format string, v []any) string {
	text := format
	if len(v) > 0 {
		text = fmt.Sprintf(format, v...)
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return l.secrets.Hide(text)
}

// peer returns the address, without port, of the client or server that a message is about; "" if it is about none. Such
// a message begins with the address and the kind of connection: 127.0.0.1:4711 - cid:8 - and so on.
func peer(text string) string {
	who, rest, _ := strings.Cut(text, " - ")
	kind, _, _ := strings.Cut(rest, ":")
	switch kind {
	case "cid", "wid", "mid", "mid_ws", "rid", "gid", "lid", "lid_ws":
	default:
		return ""
	}
	if host, _, err := net.SplitHostPort(who); err == nil {
		return host
	}
	return who
}
