package cluster_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster"
)

// natsServer is a NATS server in a process of its own.
type natsServer struct {
	t        *testing.T
	settings settings
	process  *process
}

// restart kills the server and starts it again.
func (s *natsServer) restart() {
	s.process.kill()
	s.process = start(s.t, "server", s.settings)
}

// serverCluster starts NATS servers that know each other.
func serverCluster(t *testing.T, n int) (servers []*natsServer, urls []string) {
	t.Helper()
	ports := freePorts(t, 2*n)
	var routes []string
	for _, port := range ports[n:] {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i := range n {
		s := &natsServer{t: t, settings: settings{
			Name: fmt.Sprintf("s%d", i), Port: ports[i], ClusterPort: ports[n+i], Routes: strings.Join(routes, ","), StateDir: t.TempDir(),
		}}
		s.process = start(t, "server", s.settings)
		servers = append(servers, s)
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	return servers, urls
}

// freePorts returns ports that nothing listens at.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func withoutToken(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	u.User = nil
	return u.String()
}

// serviceInfo returns what a micro service says about itself.
func serviceInfo(t *testing.T, conn *cluster.Conn, name string) (info micro.Info) {
	t.Helper()
	ask(t, conn, micro.InfoVerb, name, &info)
	return info
}

// requests returns the number of requests that the runs of a micro service have had.
func requests(t *testing.T, conn *cluster.Conn, name string) int {
	t.Helper()
	var stats micro.Stats
	ask(t, conn, micro.StatsVerb, name, &stats)
	return stats.Endpoints[0].NumRequests
}

func ask(t *testing.T, conn *cluster.Conn, verb micro.Verb, name string, answer any) {
	t.Helper()
	subject, err := micro.ControlSubject(verb, name, "")
	require.NoError(t, err)
	msg, err := conn.NATS().Request(subject, nil, time.Minute)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(msg.Data, answer))
}

// finished returns how many runs and streams of a micro service have ended.
func finished(t *testing.T, conn *cluster.Conn, name string) int {
	t.Helper()
	var stats micro.Stats
	ask(t, conn, micro.StatsVerb, name, &stats)
	var data struct {
		Finished int `json:"finished"`
	}
	require.NoError(t, json.Unmarshal(stats.Endpoints[0].Data, &data))
	return data.Finished
}
