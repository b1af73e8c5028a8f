package admin

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Limits of every request, authorized or not.
const (
	maxBody            = 64 << 10
	bodyTimeout        = 10 * time.Second       // for reading a body
	refusedReadTimeout = 250 * time.Millisecond // for reading the rest of a request that was refused
	writeTimeout       = 2 * time.Minute        // for writing an answer
)

// guard calls next for authorized requests only: those with the token, if one is configured, and not of a web page of
// another site. It reads the whole body, within limits, so that no request can hold its connection. Before a request is
// authorized nothing of its body is read.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		_ = out.SetWriteDeadline(time.Now().Add(writeTimeout)) // can't fail on a connection of http.Server
		w.Header().Set("X-Content-Type-Options", "nosniff")
		status, text := s.refusal(w, r)
		if status == 0 && !takesStream(r) {
			status, text = takeBody(w, out, r, s.bodyTimeout)
		}
		if status != 0 {
			w.Header().Set("Connection", "close")
			_ = out.SetReadDeadline(time.Now().Add(refusedReadTimeout)) // see above
			refuse(w, status, text)
			return
		}
		if !public(r) {
			defer s.connections.serve(r)()
		}
		next.ServeHTTP(w, r)
	})
}

// public reports whether the page is open to everybody: the probes of load balancers and container runtimes.
func public(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }

// refusal returns why a request isn't authorized, or status 0 if it is.
func (s *Server) refusal(w http.ResponseWriter, r *http.Request) (status int, text string) {
	browser := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != ""
	switch {
	case crossSite(r):
		return http.StatusForbidden, "a web page of another site may not use the admin API"
	case s.cfg.Token == "" && (browser || !public(r)) && !namesAddress(r.Host):
		return http.StatusMisdirectedRequest,
			"without admin.token the admin API answers to an IP address or localhost only"
	case public(r) && r.ContentLength != 0:
		return http.StatusRequestEntityTooLarge, "the request may have no body"
	case public(r) || s.authorized(r):
		return 0, ""
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	return http.StatusUnauthorized, "present admin.token as a bearer token"
}

// authorized reports whether the request has the token, or that of the site that it is about, or no token is
// configured.
func (s *Server) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	if s.cfg.Token == "" || equal(token, s.cfg.Token) {
		return true
	}
	name := ofSite(r)
	if name == "" {
		return false
	}
	own := s.siteToken(name)
	return own != "" && equal(token, own)
}

// equal compares secrets in constant time.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// crossSite reports whether the request is a browser's, for a page of another origin. GET requests count too: the page
// can't read the answers, but it could keep the node busy. Browsers without Sec-Fetch-Site send Origin.
func crossSite(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin" && site != "none"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || !strings.EqualFold(u.Host, r.Host)
}

// namesAddress reports whether a Host is an IP address or localhost. A web page can make its own name resolve to a
// loopback address, so that a browser takes the API for its origin (DNS rebinding). It can't do that with an address.
func namesAddress(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.EqualFold(name, "localhost") || net.ParseIP(strings.Trim(name, "[]")) != nil
}

// takeBody reads the whole body and replaces r.Body by it. It returns why it can't, or status 0.
func takeBody(
	w http.ResponseWriter, out *http.ResponseController, r *http.Request, timeout time.Duration,
) (status int, text string) {
	if r.ContentLength == 0 {
		return 0, ""
	}
	_ = out.SetReadDeadline(time.Now().Add(timeout)) // see guard
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = out.SetReadDeadline(time.Time{}) // else it would also end the wait for the client's disconnecting
	r.Body = io.NopCloser(bytes.NewReader(body))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return http.StatusRequestEntityTooLarge, "the body has more than 64 KiB"
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "the body didn't come in time"
	case err != nil:
		return http.StatusBadRequest, "the body is malformed"
	}
	return 0, ""
}
