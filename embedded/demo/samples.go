package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// Samples are the demo's upstreams and its member. Close stops them all.
type Samples struct {
	users  *http.Server
	orders [2]*http.Server
	addrs  [3]string
	member *nats.Conn
}

// Start starts the sample upstreams on free loopback ports.
func Start(ctx context.Context) (*Samples, error) {
	s := &Samples{users: serveSample(usersHandler())}
	for i := range s.orders {
		s.orders[i] = serveSample(ordersHandler(i + 1))
	}
	for i, server := range []*http.Server{s.users, s.orders[0], s.orders[1]} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen: %w", err), s.Close())
		}
		s.addrs[i] = "http://" + l.Addr().String()
		go func() { _ = server.Serve(l) }() // ends with ErrServerClosed at Close
	}
	return s, nil
}

func serveSample(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
}

func usersHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Tag", "users")
		writeJSON(w, map[string]string{"id": r.PathValue("id"), "name": "User " + r.PathValue("id")})
	})
	mux.HandleFunc("POST /users", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/users/7")
		w.WriteHeader(http.StatusCreated)
	})
	return mux
}

// ordersHandler answers with the number of the server, so that the balancing shows.
func ordersHandler(server int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"user": r.URL.Query().Get("user"), "orders": []int{101, 102}, "server": server})
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only if the client went away
}

// Configure adds routes to the samples and exposes every service.
func (s *Samples) Configure(cfg *node.Config) {
	upstream := func(urls ...string) node.Upstream {
		var u node.Upstream
		u.Defaults()
		for _, url := range urls {
			u.Targets = append(u.Targets, node.UpstreamTarget{URL: node.BaseURL(url), Weight: 1})
		}
		return u
	}
	route := func(path, name string) node.Route {
		var r node.Route
		r.Defaults()
		r.Path, _ = node.ParsePattern(path) // the paths below are valid
		r.To = node.Target{Kind: node.KindUpstream, Name: name}
		return r
	}
	cfg.Upstreams = map[string]node.Upstream{"users": upstream(s.addrs[0]), "orders": upstream(s.addrs[1], s.addrs[2])}
	users := route("/users/*", "users")
	users.Cache = new(node.Cache)
	users.Cache.Defaults()
	limited := route("/limited", "orders")
	limited.Limit = make(node.Limits, 1)
	_ = limited.Limit[0].UnmarshalText([]byte("3/1m")) // this limit is valid
	cfg.Routes = []node.Route{users, route("/orders/*", "orders"), limited}
	cfg.Edge.Expose = []string{"*"}
}

// Subscribe adds the member of the service hello, as any member would: with the member URL and a NATS client.
func (s *Samples) Subscribe(url string) error {
	nc, err := nats.Connect(url, nats.Name("demo-hello"))
	if err != nil {
		return fmt.Errorf("connect the sample member: %w", err)
	}
	s.member = nc
	_, err = nc.QueueSubscribe("http.hello", "q", func(msg *nats.Msg) {
		// Respond fails only if the node is shutting down.
		_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello from a subscriber\n"))
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return fmt.Errorf("subscribe the sample member: %w", err)
	}
	return nil
}

// Close stops the member and the upstreams.
func (s *Samples) Close() error {
	if s.member != nil {
		s.member.Close()
	}
	return errors.Join(s.users.Close(), s.orders[0].Close(), s.orders[1].Close())
}
