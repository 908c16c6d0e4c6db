package clustertest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// serve runs a NATS server until it is killed.
func serve(s Settings) error {
	opts := &server.Options{
		ServerName: s.Name, Host: cmp.Or(s.Listen, "127.0.0.1"), Port: s.Port, NoSigs: true, NoLog: true,
		JetStream: s.StateDir != "", StoreDir: s.StateDir, SyncAlways: s.SyncAlways, Routes: server.RoutesFromStr(s.Routes),
	}
	if s.ClusterPort != 0 && s.Routes != "" {
		opts.Cluster = server.ClusterOpts{Name: "test", Host: cmp.Or(s.Listen, "127.0.0.1"), Port: s.ClusterPort, NoAdvertise: s.Listen != ""}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.Start()
	if !srv.ReadyForConnections(testkit.Long) {
		return errors.New("the NATS server does not start")
	}
	fmt.Println("ready")
	srv.WaitForShutdown()
	return nil
}

// Server is a NATS server in a process of its own.
type Server struct {
	t        testing.TB
	settings Settings
	wrap     []string
	process  *Process
}

// StartServer starts a NATS server. Its command line begins with wrap, if there is one.
func StartServer(t testing.TB, s Settings, wrap ...string) *Server {
	t.Helper()
	return &Server{t: t, settings: s, wrap: wrap, process: Start(t, serverRole, s, wrap...)}
}

// Restart kills the server and starts it again.
func (s *Server) Restart() error {
	s.process.Kill()
	p, err := TryStart(s.t, serverRole, s.settings, s.wrap...)
	if err == nil {
		s.process = p
	}
	return err
}

// StartServers starts n NATS servers with JetStream that form a cluster if n is more than 1. Those of common that a
// server has of its own are replaced.
func StartServers(t testing.TB, n int, common Settings) (servers []*Server, urls []string) {
	t.Helper()
	ports := FreePorts(t, 2*n)
	var routes []string
	for _, port := range ports[n:] {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i := range n {
		s := common
		s.Name, s.Port, s.ClusterPort = fmt.Sprintf("s%d", i), ports[i], ports[n+i]
		if s.StateDir = t.TempDir(); n > 1 {
			s.Routes = strings.Join(routes, ",")
		}
		servers = append(servers, StartServer(t, s))
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	return servers, urls
}

// FreePorts returns n ports that nothing listens at.
func FreePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
