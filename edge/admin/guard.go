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

// Bounds on what a request may hold, let in or not.
const (
	maxBody     = 64 << 10
	bodyTime    = 10 * time.Second       // until a body must be there
	partingTime = 250 * time.Millisecond // for what is on its way of a request that is refused
	answerTime  = 2 * time.Minute        // until an answer must have been read
)

// guard lets the operator in: with the token, if there is one, and not through a web page of another site. Nothing of a
// body is read before that, and afterwards all of it, within bounds, so that no request can hold its connection.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		_ = out.SetWriteDeadline(time.Now().Add(answerTime)) // can't fail on a connection of http.Server
		w.Header().Set("X-Content-Type-Options", "nosniff")
		status, text := s.refusal(w, r)
		if status == 0 {
			status, text = takeBody(w, out, r, s.bodyTime)
		}
		if status != 0 {
			w.Header().Set("Connection", "close")
			_ = out.SetReadDeadline(time.Now().Add(partingTime)) // see above
			refuse(w, status, text)
			return
		}
		if !public(r) {
			defer s.connections.serve(r)()
		}
		next.ServeHTTP(w, r)
	})
}

// public reports whether anybody may ask it: the probes of load balancers and container runtimes.
func public(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }

// refusal says why a request isn't let in; 0 if it is.
func (s *Server) refusal(w http.ResponseWriter, r *http.Request) (status int, text string) {
	browser := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != ""
	switch {
	case crossSite(r):
		return http.StatusForbidden, "a web page of another site may not use the admin API"
	case s.cfg.Token == "" && (browser || !public(r)) && !ownName(r.Host):
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

func (s *Server) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	return s.cfg.Token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) == 1
}

// crossSite reports whether a browser says that the request comes from elsewhere than the admin API itself or its user.
// Reading requests count too: a page can't see their answers, but it can keep a node busy with them. Browsers without
// Sec-Fetch-Site send Origin.
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

// ownName reports whether a Host names this machine by an address. A web page can let its own name resolve to a
// loopback address and so pass for same-origin (DNS rebinding); an address it can't take.
func ownName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.EqualFold(name, "localhost") || net.ParseIP(strings.Trim(name, "[]")) != nil
}

// takeBody reads the body whole and puts it into the request again. It says why that can't be; 0 if it can.
func takeBody(
	w http.ResponseWriter, out *http.ResponseController, r *http.Request, patience time.Duration,
) (status int, text string) {
	if r.ContentLength == 0 {
		return 0, ""
	}
	_ = out.SetReadDeadline(time.Now().Add(patience)) // see guard
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = out.SetReadDeadline(time.Time{}) // it would count for the end of the client, too
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
