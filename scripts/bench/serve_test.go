package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAServerThatFailsIsSkippedInTheReport has a peer that answers the first few requests, and
// then fails.
func TestAServerThatFailsIsSkippedInTheReport(t *testing.T) {
	var answered atomic.Int64
	serving := func(name string, least int64) *runningServer {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if least > 0 && answered.Add(1) > least {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = w.Write([]byte(sentBack))
		}))
		t.Cleanup(server.Close)
		peer := httpPeer{name: name, about: "server " + name, path: "/", body: sentBack, answer: sentBack}
		return &runningServer{httpPeer: peer, url: server.URL, client: server.Client(), series: make(map[int]series)}
	}
	var messages strings.Builder
	b := &bench{settings: settings{rounds: 3, calls: 10}, report: &report{}, messages: &messages}
	servers := []*runningServer{serving(gophersnakeName, 0), serving("broken", 15)}
	require.NoError(t, b.measureServers(t.Context(), servers, 1))
	require.Len(t, b.report.Skipped, 1)
	assert.Equal(t, "broken with 1 connections", b.report.Skipped[0].What)
	assert.Contains(t, b.report.Skipped[0].Reason, "status 503")
	b.report.addServers(servers)
	rows := b.report.Tables[0].Rows
	assert.NotEqual(t, "–", rows[1][2])
	assert.Equal(t, []string{"server broken", "no", "–", "–", "–", "–", "–", "–"}, rows[2])

	needed := []*runningServer{serving(gophersnakeName, 1)}
	require.ErrorContains(t, b.measureServers(t.Context(), needed, 1), "status 503")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.measureServers(ctx, []*runningServer{serving("other", 0)}, 1), context.Canceled)
}
