package serve_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve"
)

func TestARepeatedKeyGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, single("misbehave", "retry: none", "breaker: none"), twoTokens)
	ask := func(token, key, body string) (*http.Response, string) {
		return s.ask(t, body, "Authorization", "Bearer "+token+"-token-0123456789", "Idempotency-Key", key)
	}
	calls := func() uint64 { return s.runner.Health().Nodes[0].Calls }
	for _, body := range []string{`"fine"`, `"raise"`} { // an error is an answer, too
		before := calls()
		first, text := ask("first", "of "+body, body)
		assert.Empty(t, first.Header.Get("Idempotency-Replayed"))
		second, again := ask("first", "of "+body, body)
		assert.Equal(t, "true", second.Header.Get("Idempotency-Replayed"))
		assert.Equal(t, first.StatusCode, second.StatusCode)
		assert.Equal(t, text, again)
		assert.Equal(t, before+1, calls())
		_, _ = ask("second", "of "+body, body)
		assert.Equal(t, before+2, calls(), "another token has keys of its own")
	}
	answer, _ := ask("first", "one", `"fine"`)
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	answer, _ = ask("first", "one", `"other"`)
	assert.Equal(t, http.StatusConflict, answer.StatusCode)
}

func TestAKeyIsOneTextOfPrintableCharacters(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	for _, key := range []string{"", "é", strings.Repeat("x", 256)} {
		status, text := s.post(t, "1", "Idempotency-Key", key)
		assert.Equal(t, http.StatusBadRequest, status, "%q: %s", key, text)
	}
	status, _ := s.post(t, "1", "Idempotency-Key", strings.Repeat("x y", 85))
	assert.Equal(t, http.StatusOK, status)
}

func TestARepeatedKeyWaitsForTheFirstAnswerThatIsUnderWay(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, single("wait", "params: {folder: '"+folder+"'}", "workers: 2"))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() { // the first client leaves, but another one waits for the same answer
		defer close(left)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/pipelines/p", strings.NewReader("1"))
		req.Header.Set("Idempotency-Key", "k")
		if answer, err := http.DefaultClient.Do(req); err == nil {
			_ = answer.Body.Close()
		}
	}()
	appears(t, folder, "began")
	second := make(chan string, 1)
	answer := make(chan *http.Response, 1)
	go func() {
		a, text := s.ask(t, "1", "Idempotency-Key", "k", "X-Request-Id", "second")
		answer <- a
		second <- text
	}()
	// The conflict shows that the key is under way, and it does not disturb the others.
	a, _ := s.ask(t, "2", "Idempotency-Key", "k")
	assert.Equal(t, http.StatusConflict, a.StatusCode)
	require.Eventually(t, func() bool { return serve.Waiters(s.server) == 2 }, patience, 1e6)
	leave()
	<-left
	require.Eventually(t, func() bool { return serve.Waiters(s.server) == 1 }, patience, 1e6)
	write(t, folder, "go")
	assert.Equal(t, "true", (<-answer).Header.Get("Idempotency-Replayed"))
	assert.Equal(t, "1\n", <-second)
	assert.False(t, exists(folder, "canceled"))
	assert.Equal(t, uint64(1), s.runner.Health().Nodes[0].Calls)
}

func TestTheKeysThatAreKeptHaveBounds(t *testing.T) {
	t.Parallel()
	s := start(t, single("pid", "workers: {min: 1, max_calls: 1}"), serve.WithKeyLimits(serve.KeyLimits{Keys: 2, Bytes: 1 << 10, Age: patience}))
	first := make(map[string]string)
	for _, key := range []string{"a", "b", "c"} { // each call has another process
		_, first[key] = s.ask(t, "1", "Idempotency-Key", key)
	}
	_, again := s.ask(t, "1", "Idempotency-Key", "c")
	assert.Equal(t, first["c"], again)
	_, again = s.ask(t, "1", "Idempotency-Key", "a")
	assert.NotEqual(t, first["a"], again, "the oldest one was forgotten")

	large := start(t, single("echo"), serve.WithKeyLimits(serve.KeyLimits{Keys: 2, Bytes: 100, Age: patience}))
	body := `"` + strings.Repeat("x", 50) + `"`
	answer, _ := large.ask(t, body, "Idempotency-Key", "k")
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	answer, text := large.ask(t, body, "Idempotency-Key", "k")
	assert.Equal(t, http.StatusConflict, answer.StatusCode)
	assert.Contains(t, text, "its answer was too large to be kept")
}
