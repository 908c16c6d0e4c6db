package serve_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/serve"
)

// The secrets of tests.
const (
	firstSecret  = "first-token-0123456789"
	secondSecret = "second-token-0123456789"
)

var twoTokens = serve.WithTokens(serve.Token{Secret: firstSecret, Name: "first"}, serve.Token{Secret: secondSecret, Name: "second"})

func TestTokensAreReadFromAFileWithTheirAttributes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	const secret = "0123456789abcdef"
	for text, want := range map[string]string{
		"short":                  "tokens:1: the token has less than 16 characters",
		"# none":                 "there is no token in",
		secret + " weight=0":     "tokens:1: a weight is a number from 1 to 1000",
		secret + " weight=":      "tokens:1: a weight is a number from 1 to 1000",
		secret + " admin=yes":    "tokens:1: after the token, there is something that is no attribute",
		secret + " fedcba987654": "tokens:1: after the token, there is something that is no attribute",
		secret + " color=red":    "tokens:1: after the token, there is something that is no attribute",
		secret + " rate=5":       "tokens:1: a rate is a number for a second, a minute or an hour",
		secret + " rate=NaN/s":   "tokens:1: a rate is",
		secret + " rate=-1/s":    "tokens:1: a rate is",
		secret + " burst=0":      "tokens:1: a burst is",
		secret + " name=a/b":     "tokens:1: a name has",
		secret + " priority=top": "tokens:1: a priority is high, normal or low",
		secret + " admin admin":  "tokens:1: admin comes twice",
		secret + "\n\n" + secret: "tokens:3: the token is that of line 1, too",
		secret + "\nshort":       "tokens:2: the token has less than 16 characters",
		secret + " name=token-2\n" + strings.ToUpper(secret): "tokens:2: the name token-2 is that of line 1, too",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := serve.ReadTokens(file)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "fedcba", "what may be a secret is not in the message")
		assert.NotContains(t, err.Error(), secret)
	}
	text := "# ours\n\n0123456789abcdef\n  fedcba9876543210  \n" +
		"0011223344556677 name=batch admin weight=3 rate=90/m burst=10 priority=low\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	tokens, err := serve.ReadTokens(file)
	require.NoError(t, err)
	assert.Equal(t, []serve.Token{
		{Secret: "0123456789abcdef", Name: "token-1"},
		{Secret: "fedcba9876543210", Name: "token-2"},
		{Secret: "0011223344556677", Name: "batch", Admin: true, Weight: 3, Rate: 1.5, Burst: 10, Priority: serve.PriorityLow},
	}, tokens)
}

func TestTheRateOfATokenIsItsOwn(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), serve.WithRate(0.001, 2), serve.WithTokens(
		serve.Token{Secret: firstSecret, Rate: 0.001, Burst: 3}, serve.Token{Secret: secondSecret}))
	for secret, allowed := range map[string]int{firstSecret: 3, secondSecret: 2} {
		for i := range allowed + 2 {
			answer, text := s.ask(t, "1", "Authorization", "Bearer "+secret)
			if i < allowed {
				require.Equal(t, http.StatusOK, answer.StatusCode, text)
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, answer.StatusCode)
			assert.Equal(t, "urn:gophersnake:problem:rate-limited", problemIn(t, text).Type)
			assert.Greater(t, problemIn(t, text).RetryAfter, 500.0, "it says when the next one is allowed")
		}
		status, _ := s.get(t, "/healthz", "Authorization", "Bearer "+secret)
		assert.Equal(t, http.StatusOK, status, "only calls count")
	}
}

func TestNewTokensCountAtOnceAndKeepWhatTheyHaveUsed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var failed []string
	limited := serve.Token{Secret: firstSecret, Name: "limited", Rate: 0.001, Burst: 1}
	s := start(t, single("echo"), serve.WithTokens(limited), serve.WithFailures(func(f serve.Failure) {
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, f.Token)
	}))
	ask := func(secret string) int {
		status, _ := s.post(t, "1", "Authorization", "Bearer "+secret)
		return status
	}
	assert.Equal(t, http.StatusOK, ask(firstSecret))
	assert.Equal(t, http.StatusUnauthorized, ask(secondSecret))
	require.NoError(t, s.server.SetTokens([]serve.Token{{Secret: secondSecret}, limited}))
	assert.Equal(t, http.StatusOK, ask(secondSecret))
	assert.Equal(t, http.StatusTooManyRequests, ask(firstSecret))
	require.NoError(t, s.server.SetTokens([]serve.Token{{Secret: secondSecret}}))
	assert.Equal(t, http.StatusUnauthorized, ask(firstSecret))
	require.Error(t, s.server.SetTokens(nil), "a server does not become open to all")
	assert.Equal(t, []string{"", "limited", ""}, failed, "failures have the name of the token")
}
