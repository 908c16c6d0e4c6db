package cluster_test

import (
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster"
)

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
