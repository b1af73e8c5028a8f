package natsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nuid"

	"millrace/embedded/logs"
	"millrace/node"
)

// MaxPayload is the server's limit on a message, in bytes: twice the limit of a body, so that there is space for a
// head.
const MaxPayload = int(node.MaxMessage)

// account is the NATS account of nodes and members.
const account = "MESH"

// ErrPortInUse means that another process listens on the address.
var ErrPortInUse = errors.New("address is in use")

// ErrClusterPortInUse means that another process listens on the cluster's address.
var ErrClusterPortInUse = errors.New("cluster address is in use")

// ErrLeafsPortInUse means that another process listens on the address for leafs.
var ErrLeafsPortInUse = errors.New("address for leafs is in use")

// Config configures a Server.
type Config struct {
	Name           string // node name
	Dir            string // JetStream's directory
	Listen         string // host:port for members; port 0 takes a free one
	MemberToken    string
	MemberSubjects []string      // subjects of nats: routes, which members may serve besides http.>
	Cluster        *Cluster      // nil for a server that is in none
	Leafs          *Leafs        // nil for a server that no leafs join
	Leaf           *Leaf         // nil for a server that is no leaf
	Rebuilt        []string      // streams whose index is rebuilt at the start: see DESIGN.md
	Refused        func(Refusal) // called when a member's subscription is refused; may be nil
	Log            *slog.Logger
}

// Server is one embedded NATS server. It is safe for concurrent use.
type Server struct {
	cfg            Config
	nodePassword   string
	systemPassword string
	secrets        *logs.Secrets
	closeLog       func()

	current    atomic.Pointer[server.Server]
	account    atomic.Pointer[server.Account]
	subjects   atomic.Pointer[[]string]
	gone       atomic.Pointer[func(subjects []string)] // nil until OnGone
	missing    atomic.Pointer[[]string]                // see Missing
	interested interestCache
	alone      interestCache

	mu             sync.Mutex // guards what follows and the order of start and stop
	listen         string     // with the real port once the server has started
	opts           *server.Options
	stopElections  func()   // nil unless startElections has started something
	stopPeerChecks func()   // nil unless startPeerChecks has started something
	watcher        *watcher // of the running server
}

// New checks the configuration. Open starts the server.
func New(cfg Config) (*Server, error) {
	if cfg.Refused == nil {
		cfg.Refused = func(Refusal) {}
	}
	if cfg.Name == "" || cfg.Dir == "" || cfg.MemberToken == "" || cfg.Log == nil {
		return nil, errors.New("configure NATS server: name, dir, token and log are needed")
	}
	if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
		return nil, fmt.Errorf("configure NATS server: %w", err)
	}
	if cfg.Cluster != nil {
		if err := cfg.Cluster.check(); err != nil {
			return nil, fmt.Errorf("configure NATS server: %w", err)
		}
	}
	if err := cfg.checkLeaf(); err != nil {
		return nil, fmt.Errorf("configure NATS server: %w", err)
	}
	s := &Server{
		cfg: cfg, nodePassword: nuid.Next() + nuid.Next(), systemPassword: nuid.Next() + nuid.Next(),
		listen: cfg.Listen,
	}
	s.cfg.Log, s.secrets, s.closeLog = wrapLog(cfg.Log, cfg.MemberToken, s.nodePassword, s.systemPassword)
	if cfg.Cluster != nil {
		s.secrets.Add(cfg.Cluster.Token)
	}
	if cfg.Leafs != nil {
		s.secrets.Add(cfg.Leafs.Token)
	}
	if cfg.Leaf != nil {
		s.secrets.Add(cfg.Leaf.Token)
	}
	s.SetMemberSubjects(cfg.MemberSubjects)
	return s, nil
}

// Open starts the server and waits until it accepts connections. The error wraps ErrPortInUse, ErrClusterPortInUse or
// ErrLeafsPortInUse if another process has the port, ErrNameInUse if a peer has the name, and ErrMode if the directory
// belongs to another kind of server.
func (s *Server) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(ctx)
}

func (s *Server) start(ctx context.Context) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	if err := s.checkName(ctx); err != nil {
		return err
	}
	if err := s.claimDir(); err != nil {
		return err
	}
	if err := s.removeIndexes(); err != nil {
		return err
	}
	auth := &authenticator{s: s}
	opts, err := s.options(auth)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make NATS server: %w", err)
	}
	auth.srv.Store(srv)
	fatal := make(chan string, 1)
	srv.SetLoggerV2(&logger{log: s.cfg.Log, secrets: s.secrets, fatal: fatal, refused: s.cfg.Refused}, false, false,
		false)
	srv.Start()
	err = ready(ctx, srv, fatal)
	if err == nil {
		err = s.checkMode(srv)
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		if taken := s.probe(ctx); taken != nil { // another process took the port after the first probe
			return taken
		}
		return err
	}
	acc, err := srv.LookupAccount(account)
	if err != nil {
		return fmt.Errorf("find account %s: %w", account, err)
	}
	if s.watcher, err = s.watch(srv); err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return err
	}
	s.listen, s.opts = srv.Addr().String(), opts
	s.account.Store(acc)
	s.current.Store(srv)
	s.startElections(srv)
	s.startPeerChecks()
	return nil
}

// probe checks that the ports are free. The server itself would only log that they aren't.
func (s *Server) probe(ctx context.Context) error {
	if err := probe(ctx, s.listen, ErrPortInUse); err != nil {
		return fmt.Errorf("listen on %s for NATS clients: %w", s.listen, err)
	}
	if l := s.cfg.Leafs; l != nil {
		if err := probe(ctx, l.Listen, ErrLeafsPortInUse); err != nil {
			return fmt.Errorf("listen on %s for leafs: %w", l.Listen, err)
		}
	}
	if s.cfg.Cluster == nil {
		return nil
	}
	if err := probe(ctx, s.cfg.Cluster.Listen, ErrClusterPortInUse); err != nil {
		return fmt.Errorf("listen on %s for other nodes: %w", s.cfg.Cluster.Listen, err)
	}
	return nil
}

func probe(ctx context.Context, listen string, inUse error) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return errors.Join(inUse, err)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// ready waits until the server accepts connections. It fails with the server's first fatal message, or when ctx ends.
func ready(ctx context.Context, srv *server.Server, fatal <-chan string) error {
	up := make(chan bool, 1)
	go func() { up <- srv.ReadyForConnections(10 * time.Second) }()
	select {
	case ok := <-up:
		if !ok {
			return errors.New("start NATS server: not ready after 10s; see the log")
		}
		return nil
	case text := <-fatal:
		return fmt.Errorf("start NATS server: %s", text)
	case <-ctx.Done():
		return fmt.Errorf("start NATS server: %w", ctx.Err())
	}
}

// Restart stops the server and starts it again on the same port, for settings that can't change while it runs.
// Connections made through InProcessConn reconnect by themselves.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	return s.start(ctx)
}

// Close stops the server and waits until it has stopped. It can be called again.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.closeLog()
	return nil
}

func (s *Server) stop() {
	if s.stopElections != nil {
		s.stopElections()
		s.stopElections = nil
	}
	if s.stopPeerChecks != nil {
		s.stopPeerChecks()
		s.stopPeerChecks = nil
	}
	if srv := s.current.Swap(nil); srv != nil {
		s.watcher.close()
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// InProcessConn connects to the running server without a socket.
func (s *Server) InProcessConn() (net.Conn, error) {
	srv := s.current.Load()
	if srv == nil {
		return nil, errors.New("NATS server is not running")
	}
	return srv.InProcessConn()
}

// NodeCredential returns the user and password of this process. They change with every New.
func (s *Server) NodeCredential() (user, password string) { return nodeUser, s.nodePassword }

// Addr is the address for members, with the real port.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listen
}

// ClientURL is the URL for members on this machine. Members on others replace a loopback address by the machine's name.
// The URL holds the token: keep it secret.
func (s *Server) ClientURL() string {
	return "nats://" + s.cfg.MemberToken + "@" + node.Address(s.Addr()).Dial()
}

// SetMemberSubjects replaces the plain NATS subjects that members may serve. It applies to members that connect
// afterwards.
func (s *Server) SetMemberSubjects(subjects []string) { s.subjects.Store(&subjects) }

// OnGone sets the function that is called with the subjects that members of this server served when their connections
// ended before they unsubscribed. It is called from one goroutine.
func (s *Server) OnGone(f func(subjects []string)) { s.gone.Store(&f) }

func (s *Server) reportGone(subjects []string) {
	if f := s.gone.Load(); f != nil {
		(*f)(subjects)
	}
}

// Clients returns the number of connections, including this process's own.
func (s *Server) Clients() int {
	if srv := s.current.Load(); srv != nil {
		return srv.NumClients()
	}
	return 0
}
