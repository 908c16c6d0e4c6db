package httpjobs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestTheWebhookOfAJobGetsTheDocumentThatTheServiceHas(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo fail", jobs.Config{}, nil)
	verifier, err := standardwebhooks.NewWebhook(webhookSecret)
	require.NoError(t, err)
	bodies := make(chan []byte, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		assert.NoError(t, verifier.Verify(body, req.Header))
		bodies <- body
	}))
	defer receiver.Close()
	for pipeline, state := range map[string]string{"echo": "done", "fail": "failed"} {
		a := s.submit(pipeline, `"x"`, "X-Webhook", receiver.URL)
		require.NotNil(t, a.Webhook)
		assert.Equal(t, "pending", a.Webhook.State)
		body := <-bodies
		testkit.Eventually(t, func() bool { a = s.get(a.URL); return a.Webhook.State == "delivered" })
		assert.Equal(t, state, a.State)
		assert.Equal(t, receiver.URL, a.Webhook.URL)
		assert.Equal(t, 1, a.Webhook.Attempts)
		var got, want map[string]any
		require.NoError(t, json.Unmarshal(body, &got))
		require.NoError(t, json.Unmarshal([]byte(a.text), &want))
		delete(want, "webhook")
		assert.Equal(t, want, got)
	}
}

func TestAKeyStandsForOneWebhook(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo", jobs.Config{}, nil)
	s.submit("echo", "1", "Idempotency-Key", "k", "X-Webhook", "https://a.invalid")
	s.submit("echo", "1", "Idempotency-Key", "k", "X-Webhook", "https://a.invalid")
	for _, headers := range [][]string{{"X-Webhook", "https://b.invalid"}, nil} {
		a := s.do(http.MethodPost, "/v1/pipelines/echo", "1", append(headers, "Idempotency-Key", "k", "Prefer", "respond-async")...)
		assert.Equal(t, http.StatusConflict, a.status, a.text)
	}
}

func TestAWebhookThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo", jobs.Config{}, nil)
	for _, url := range []string{"example.com", "ftp://example.com", "https://user:password@example.com"} {
		a := s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "respond-async", "X-Webhook", url)
		assert.Equal(t, http.StatusBadRequest, a.status, a.text)
		assert.Equal(t, "urn:gophersnake:problem:malformed", a.Type)
		assert.Contains(t, a.Detail, "the URL of the webhook is not valid")
		assert.NotContains(t, a.text, "password@")
	}
	assert.Empty(t, s.jobs())
}
