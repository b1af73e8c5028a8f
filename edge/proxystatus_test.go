package edge_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/node/nodetest"
)

// target is an upstream that does with each connection, once a request has come, what it is told.
func target(tb testing.TB, answer func(net.Conn)) (url string) {
	tb.Helper()
	return "http://" + nodetest.Serve(tb, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			answer(c)
		}
	})
}

// saying is a target that answers with these bytes and hangs up.
func saying(tb testing.TB, answer string) (url string) {
	tb.Helper()
	return target(tb, func(c net.Conn) { _, _ = io.WriteString(c, answer) })
}

// secure is a target with TLS that no client trusts, or that trusts no client's version.
func secure(tb testing.TB, newest uint16) (url string) {
	tb.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: newest}
	s.StartTLS()
	tb.Cleanup(s.Close)
	return s.URL
}

// Clients are told by Proxy-Status which of the failures of RFC 9209 an upstream's was.
func TestProxyStatusTellsFailuresApart(t *testing.T) {
	plain := saying(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	for failure, url := range map[string]string{
		"connection_refused":                "http://127.0.0.1:1",
		"tls_certificate_error":             secure(t, tls.VersionTLS13),
		"tls_alert_received":                secure(t, tls.VersionTLS11),
		"tls_protocol_error":                strings.Replace(plain, "http", "https", 1),
		"connection_terminated":             target(t, func(net.Conn) {}),
		"connection_terminated, reset":      target(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }),
		"http_response_incomplete":          saying(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
		"http_response_incomplete, head":    saying(t, "HTTP/1.1 200 OK\r\nConte"),
		"http_protocol_error":               saying(t, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
		"http_protocol_error, not HTTP":     saying(t, "SSH-2.0-OpenSSH_9.6\r\n"),
		"http_response_header_section_size": saying(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", 70<<10)),
		"http_response_header_section_size, count": saying(t,
			"HTTP/1.1 200 OK\r\n"+strings.Repeat("X: a\r\n", 257)+"\r\n"),
		"http_response_transfer_coding": saying(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc"),
		"http_upgrade_failed":           saying(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
	} {
		t.Run(failure, func(t *testing.T) {
			r := edgetest.Start(t, edgetest.Cached(nil, edgetest.ToUpstream))
			r.Upstream(t, url)
			want, _, _ := strings.Cut(failure, ",")
			s := r.Get(t, "/a")
			if got := s.Header.Get("Proxy-Status"); s.StatusCode != 502 || got != "Millrace; error="+want {
				t.Errorf("%s, Proxy-Status %q", s, got)
			}
		})
	}
}
