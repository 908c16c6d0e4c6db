package serve_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// crowd is a service whose only worker is busy, and the requests that wait for it.
type crowd struct {
	*service
	folder  string
	clients sync.WaitGroup
}

// crowded returns a service whose only worker is busy until the crowd is served.
func crowded(t *testing.T, opts ...serve.Option) *crowd {
	t.Helper()
	folder := t.TempDir()
	c := &crowd{service: start(t, single("order", "params: {folder: '"+folder+"'}"), opts...), folder: folder}
	t.Cleanup(func() {
		write(t, folder, "go")
		c.clients.Wait()
	})
	c.come(t, "block", 1, "Authorization", "Bearer "+firstSecret)
	appears(t, folder, "began")
	return c
}

// come sends requests with a value, and returns when they wait.
func (c *crowd) come(t *testing.T, value string, n int, headers ...string) {
	t.Helper()
	want := serve.Counts(c.server).Waiting + n
	for range n {
		c.clients.Go(func() {
			status, text := c.post(t, fmt.Sprintf("%q", value), headers...)
			assert.Equal(t, http.StatusOK, status, text)
		})
	}
	if value != "block" {
		c.wait(t, want)
	}
}

// wait waits until so many requests wait.
func (c *crowd) wait(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return serve.Counts(c.server).Waiting == n }, patience, time.Millisecond)
}

// served lets the worker go on, and returns the values in the order in which the node got them.
func (c *crowd) served(t *testing.T) []string {
	t.Helper()
	write(t, c.folder, "go")
	c.clients.Wait()
	text, err := os.ReadFile(filepath.Join(c.folder, "order"))
	require.NoError(t, err)
	return strings.Fields(string(text))[1:]
}

func count(values []string, of string) (n int) {
	for _, v := range values {
		if v == of {
			n++
		}
	}
	return n
}

func TestTokensShareABusyPipelineByTheirWeights(t *testing.T) {
	t.Parallel()
	c := crowded(t, serve.WithTokens(serve.Token{Secret: firstSecret, Weight: 1}, serve.Token{Secret: secondSecret, Weight: 3}))
	c.come(t, "light", 40, "Authorization", "Bearer "+firstSecret)
	c.come(t, "heavy", 40, "Authorization", "Bearer "+secondSecret)
	served := c.served(t)
	require.Len(t, served, 80)
	assert.InDelta(t, 30, count(served[:40], "heavy"), 3)
	assert.InDelta(t, 10, count(served[:40], "light"), 1)
}

func TestAFloodOfOneTokenDelaysAnotherByAFewCalls(t *testing.T) {
	t.Parallel()
	c := crowded(t, twoTokens)
	c.come(t, "flood", 60, "Authorization", "Bearer "+firstSecret)
	c.come(t, "single", 1, "Authorization", "Bearer "+secondSecret)
	assert.Contains(t, c.served(t)[:3], "single")
}

func TestMoreUrgentRequestsComeFirst(t *testing.T) {
	t.Parallel()
	c := crowded(t, serve.WithTokens(serve.Token{Secret: firstSecret}, serve.Token{Secret: secondSecret, Priority: serve.PriorityHigh}))
	c.come(t, "low", 3, "Authorization", "Bearer "+firstSecret, "X-Priority", "low")
	c.come(t, "normal", 3, "Authorization", "Bearer "+firstSecret, "X-Priority", "high") // it cannot raise it
	c.come(t, "high", 3, "Authorization", "Bearer "+secondSecret)
	assert.Equal(t, "high high high normal normal normal low low low", strings.Join(c.served(t), " "))
	status, text := c.post(t, "1", "Authorization", "Bearer "+firstSecret, "X-Priority", "top")
	assert.Equal(t, http.StatusBadRequest, status, text)
}

func TestLowPrioritiesAreServedWhileOthersFlood(t *testing.T) {
	t.Parallel()
	c := crowded(t)
	c.come(t, "low", 2, "X-Priority", "low")
	c.come(t, "normal", 50)
	served := c.served(t)
	assert.Equal(t, 1, count(served[:17], "low"))
	assert.Equal(t, 2, count(served[:34], "low"))
}

func TestItemsOfAStreamWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	c := crowded(t, twoTokens)
	c.come(t, "call", 10, "Authorization", "Bearer "+firstSecret)
	c.clients.Go(func() {
		status, text := c.post(t, "\"item\"\n\"item\"\n", "Content-Type", lines, "Authorization", "Bearer "+secondSecret)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, "{\"result\":\"item\"}\n{\"result\":\"item\"}\n", text)
	})
	c.wait(t, 11)
	served := c.served(t)
	assert.Contains(t, served[:3], "item")
}

func TestAWaitingRequestWhoseClientLeavesOrWhoseTimeIsOverLeavesTheQueue(t *testing.T) {
	t.Parallel()
	c := crowded(t, twoTokens)
	status, text := c.post(t, `"late"`, "Authorization", "Bearer "+firstSecret, "X-Request-Timeout", "50ms")
	assert.Equal(t, http.StatusGatewayTimeout, status, text)
	c.wait(t, 0)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/pipelines/p", strings.NewReader(`"gone"`))
		req.Header.Set("Authorization", "Bearer "+firstSecret)
		if answer, err := http.DefaultClient.Do(req); err == nil {
			_ = answer.Body.Close()
		}
	}()
	c.wait(t, 1)
	leave()
	<-left
	c.wait(t, 0)
	assert.Empty(t, c.served(t))
}

func TestAFullQueueRefusesRequestsAndKeepsTheShareOfEachClient(t *testing.T) {
	t.Parallel()
	c := crowded(t, twoTokens, serve.WithQueue(4))
	outcomes := make(chan int, 4)
	for range 4 {
		c.clients.Go(func() {
			status, _ := c.post(t, `"flood"`, "Authorization", "Bearer "+firstSecret)
			outcomes <- status
		})
	}
	c.wait(t, 4)
	answer, text := c.ask(t, `"flood"`, "Authorization", "Bearer "+firstSecret)
	assert.Equal(t, http.StatusTooManyRequests, answer.StatusCode, text)
	assert.Equal(t, "urn:gophersnake:problem:queue-full", problemIn(t, text).Type)
	assert.NotEmpty(t, answer.Header.Get("Retry-After"))
	c.clients.Go(func() {
		status, text := c.post(t, `"single"`, "Authorization", "Bearer "+secondSecret)
		assert.Equal(t, http.StatusOK, status, text)
	})
	assert.Equal(t, http.StatusTooManyRequests, <-outcomes, "it makes room for the other token")
	assert.Contains(t, c.served(t), "single")
	for range 3 {
		assert.Equal(t, http.StatusOK, <-outcomes)
	}
}

func TestTheLimitsOfANodesQueueHoldForRequests(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, single("order", "params: {folder: '"+folder+"'}", "limits: {queue: 1, queue_wait: 100ms}", "retry: none"))
	blocked := make(chan int, 1)
	go func() {
		status, _ := s.post(t, `"block"`)
		blocked <- status
	}()
	appears(t, folder, "began")
	status, text := s.post(t, `"waits"`)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Contains(t, text, "queue_wait")
	write(t, folder, "go")
	assert.Equal(t, http.StatusOK, <-blocked)
}

func TestTheBodiesOfAllRequestsHaveOneBound(t *testing.T) {
	t.Parallel()
	c := crowded(t, serve.WithMemory(3500))
	large := strings.Repeat("x", 1000)
	c.come(t, large, 2)
	for _, size := range []int{1600, 3000} {
		body := fmt.Sprintf("%q\n", strings.Repeat("y", size))
		for _, contentType := range []string{"application/json", lines} {
			answer, text := c.ask(t, body, "Content-Type", contentType)
			if contentType == lines { // the answer begins before the first line
				assert.Contains(t, text, "urn:gophersnake:problem:no-memory")
				continue
			}
			assert.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
			assert.Equal(t, "urn:gophersnake:problem:no-memory", problemIn(t, text).Type)
			assert.NotEmpty(t, answer.Header.Get("Retry-After"))
		}
	}
	c.come(t, "small", 1)
	assert.Len(t, c.served(t), 3)
	require.Eventually(t, func() bool { return serve.Held(c.server) == 0 }, patience, time.Millisecond, "what was held is free")
	status, text := c.post(t, fmt.Sprintf("%q", strings.Repeat("x", 1800)))
	assert.Equal(t, http.StatusServiceUnavailable, status, text[:min(len(text), 200)])
	status, _ = c.post(t, fmt.Sprintf("%q", strings.Repeat("x", 1400)))
	assert.Equal(t, http.StatusOK, status, "the body and the answer fit")
}

func TestMetricsCountByToken(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithTokens(
		serve.Token{Secret: firstSecret, Name: "batch", Rate: 0.001, Burst: 1}, serve.Token{Secret: secondSecret}))
	for range 2 {
		_, _ = s.post(t, "1", "Authorization", "Bearer "+firstSecret)
	}
	status, text := s.get(t, "/metrics", "Authorization", "Bearer "+secondSecret)
	require.Equal(t, http.StatusOK, status)
	for _, line := range []string{
		`gophersnake_serve_calls_total{token="batch"} 2`, `gophersnake_serve_rate_limited_total{token="batch"} 1`,
		`gophersnake_serve_calls_total{token="token-2"} 0`, `gophersnake_serve_waiting_requests{pipeline="p"} 0`,
		"gophersnake_serve_held_bytes 0",
	} {
		assert.Contains(t, text, line+"\n")
	}
	assert.NotContains(t, text, firstSecret)
}

func TestTheContentOfACompressedBodyCountsInTheMemory(t *testing.T) {
	t.Parallel()
	s := listen(t, newRunner(t, echoes), serve.Config{}, serve.WithMemory(10_000))
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	_, err := w.Write([]byte(`"` + strings.Repeat("x", 20_000) + `"`))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, body.Len(), 1000)
	status, text := s.post(t, body.String(), "Content-Encoding", "gzip")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "urn:gophersnake:problem:no-memory", problemIn(t, text).Type)
	assert.Zero(t, serve.Held(s.server))
}
