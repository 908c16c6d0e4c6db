package jobs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// webhookSecret is the secret of the tests.
const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhooks are those of the machines of the tests. A document is the state of a job and its error.
func webhooks() jobs.Webhooks {
	return jobs.Webhooks{
		Secrets: []string{webhookSecret}, Allow: []string{"127.0.0.1"}, Pause: time.Millisecond, Timeout: testkit.Long,
		Document: func(j *jobs.Job) ([]byte, error) {
			doc := posted{Job: j.String(), State: j.State, HasWebhook: j.Webhook != nil}
			if j.Err != nil {
				doc.Error = j.Err.Message
			}
			return json.Marshal(doc)
		},
	}
}

// posted is a document that a receiver has got.
type posted struct {
	Job, Error string
	State      jobs.State
	HasWebhook bool
	id         string
}

// receiver is an HTTP server for webhooks. It checks the signature of each document.
type receiver struct {
	url   string
	posts chan posted
}

// receiveWebhooks starts a receiver. Answer returns the status of the nth request, from 1.
func receiveWebhooks(t *testing.T, answer func(n int) int) *receiver {
	t.Helper()
	r := &receiver{posts: make(chan posted, 1000)}
	verifier, err := standardwebhooks.NewWebhook(webhookSecret)
	require.NoError(t, err)
	numbers := make(chan int, 1)
	numbers <- 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n := <-numbers + 1
		numbers <- n
		body, _ := io.ReadAll(req.Body)
		doc := posted{id: req.Header.Get("webhook-id")}
		assert.NoError(t, verifier.Verify(body, req.Header))
		assert.NoError(t, json.Unmarshal(body, &doc))
		assert.False(t, doc.HasWebhook)
		r.posts <- doc
		w.WriteHeader(answer(n))
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func always(status int) func(int) int { return func(int) int { return status } }

// serveWith takes jobs for one pipeline in this process, with options.
func (s *site) serveWith(name, text string, opts ...jobs.ServerOption) *jobs.Server {
	s.t.Helper()
	r, err := clustertest.NewRunner(text)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { assert.NoError(s.t, r.Close(s.t.Context())) })
	server, err := jobs.Start(s.t.Context(), s.Store, map[string]*runner.Runner{name: r}, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(server.Close)
	return server
}

// awaitWebhook waits until the webhook of a job is in a state.
func (s *site) awaitWebhook(ref jobs.Ref, state jobs.WebhookState) *jobs.Webhook {
	s.t.Helper()
	var j *jobs.Job
	testkit.Eventually(s.t, func() bool {
		var err error
		j, err = s.Get(s.t.Context(), ref)
		return err == nil && j.Webhook != nil && j.Webhook.State == state
	}, state)
	return j.Webhook
}

func TestTheEndOfAJobIsPostedToItsWebhook(t *testing.T) {
	t.Parallel()
	s, r := newSite(t), receiveWebhooks(t, always(http.StatusNoContent))
	s.serveWith("echo", clustertest.EchoPipeline, jobs.WithWebhooks(webhooks()))
	ref := s.submit("echo", 1, jobs.WithWebhook(r.url))
	assert.Equal(t, posted{Job: ref.String(), State: jobs.Done}, withoutID(receive(t, r.posts)))
	w := s.awaitWebhook(ref, jobs.WebhookDelivered)
	assert.Equal(t, r.url, w.URL)
	assert.Equal(t, 1, w.Attempts)
	assert.Empty(t, w.Error)
	assert.False(t, w.Delivered.IsZero())
	assert.Equal(t, int64(1), s.result(ref), "the result is still there")
	s.await(s.submit("echo", 2)) // it has none
	assert.Empty(t, r.posts)
}

func withoutID(p posted) posted { p.id = ""; return p }

func TestAFailedJobAndEachOfItsRetriesIsPosted(t *testing.T) {
	t.Parallel()
	s, r := newSite(t), receiveWebhooks(t, always(http.StatusOK))
	s.serveWith("fail", clustertest.FailPipeline, jobs.WithWebhooks(webhooks()))
	ref := s.submit("fail", "x", jobs.WithWebhook(r.url))
	first := receive(t, r.posts)
	assert.Equal(t, jobs.Failed, first.State)
	assert.NotEmpty(t, first.Error)
	s.awaitWebhook(ref, jobs.WebhookDelivered)
	require.NoError(t, s.Retry(t.Context(), ref))
	again := receive(t, r.posts)
	assert.Equal(t, withoutID(first), withoutID(again))
	assert.NotEqual(t, first.id, again.id, "it is another end of the job")
	s.awaitWebhook(ref, jobs.WebhookDelivered)
}

func TestACanceledJobIsPosted(t *testing.T) {
	t.Parallel()
	s, r := newSite(t), receiveWebhooks(t, always(http.StatusOK))
	folder := t.TempDir()
	s.serveWith("hold", clustertest.HoldPipeline(folder, 1, ""), jobs.WithWebhooks(webhooks()))
	running := s.submit("hold", "a", jobs.WithWebhook(r.url))
	clustertest.AwaitBegun(t, folder, "a", 1)
	queued := s.submit("hold", "b", jobs.WithWebhook(r.url), jobs.WithStart(time.Now().Add(time.Hour)))
	for _, ref := range []jobs.Ref{queued, running} {
		require.NoError(t, s.Cancel(t.Context(), ref))
		assert.Equal(t, posted{Job: ref.String(), State: jobs.Canceled}, withoutID(receive(t, r.posts)))
		s.awaitWebhook(ref, jobs.WebhookDelivered)
	}
}

func TestAReceiverThatFailsTwiceGetsTheSameDocumentAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := receiveWebhooks(t, func(n int) int {
		if n <= 2 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	server := s.serveWith("echo", clustertest.EchoPipeline, jobs.WithWebhooks(webhooks()))
	ref := s.submit("echo", 1, jobs.WithWebhook(r.url))
	first := receive(t, r.posts)
	assert.Equal(t, first, receive(t, r.posts))
	assert.Equal(t, first, receive(t, r.posts))
	w := s.awaitWebhook(ref, jobs.WebhookDelivered)
	assert.Equal(t, 3, w.Attempts)
	assert.Empty(t, w.Error)
	counted := make(map[string]float64)
	for _, m := range server.Metrics() {
		counted[m.Name] += m.Value
	}
	assert.InEpsilon(t, 1.0, counted["gophersnake_jobs_webhooks_delivered_total"], 0)
	assert.InEpsilon(t, 2.0, counted["gophersnake_jobs_webhook_failures_total"], 0)
}

func TestAFailingWebhookSaysWhyAndWhenAndIsGivenUpInTheEnd(t *testing.T) {
	t.Parallel()
	s, r := newSite(t), receiveWebhooks(t, always(http.StatusInternalServerError))
	patient, impatient := webhooks(), webhooks()
	patient.Pause = time.Hour
	impatient.Patience = time.Nanosecond
	s.serveWith("patient", clustertest.EchoPipeline, jobs.WithWebhooks(patient))
	s.serveWith("impatient", clustertest.EchoPipeline, jobs.WithWebhooks(impatient))
	w := s.awaitWebhook(s.submit("patient", 1, jobs.WithWebhook(r.url)), jobs.WebhookFailing)
	assert.Equal(t, "status 500", w.Error)
	assert.WithinRange(t, w.Next, time.Now().Add(40*time.Minute), time.Now().Add(80*time.Minute))
	assert.Contains(t, w.String(), "failing: status 500, attempt 1, the next at ")
	w = s.awaitWebhook(s.submit("impatient", 1, jobs.WithWebhook(r.url)), jobs.WebhookGivenUp)
	assert.Equal(t, "given up after attempt 1: status 500", w.String())
	gone := receiveWebhooks(t, always(http.StatusGone))
	s.awaitWebhook(s.submit("patient", 1, jobs.WithWebhook(gone.url)), jobs.WebhookGivenUp)
}

func TestAWebhookToAnAddressThatIsNotPublicIsNotReached(t *testing.T) {
	t.Parallel()
	s, r := newSite(t), receiveWebhooks(t, always(http.StatusOK))
	strict := webhooks()
	strict.Allow, strict.Pause = nil, time.Hour
	s.serveWith("echo", clustertest.EchoPipeline, jobs.WithWebhooks(strict))
	for _, url := range []string{r.url, strings.Replace(r.url, "127.0.0.1", "localhost", 1)} {
		w := s.awaitWebhook(s.submit("echo", 1, jobs.WithWebhook(url)), jobs.WebhookFailing)
		assert.Contains(t, w.Error, "is not public")
	}
	assert.Empty(t, r.posts)
}

func TestAJobIsRefusedIfItsWebhookCannotBePosted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline)
	_, _, err := s.Submit(t.Context(), "echo", 1, jobs.WithWebhook("https://example.com"))
	require.ErrorIs(t, err, jobs.ErrWebhook)
	require.ErrorContains(t, err, `no machine posts webhooks for the pipeline "echo"`)
	s.serveWith("other", clustertest.EchoPipeline, jobs.WithWebhooks(webhooks()))
	_, _, err = s.Submit(t.Context(), "echo", 1, jobs.WithWebhook("https://example.com"))
	require.ErrorIs(t, err, jobs.ErrWebhook, "that machine serves another pipeline")
	_, _, err = s.Submit(t.Context(), "other", 1, jobs.WithWebhook("example.com"))
	require.ErrorIs(t, err, jobs.ErrWebhook)
	require.ErrorContains(t, err, "begins with neither https:// nor http://")
	assert.True(t, s.isEmpty("other")())

	r, err := clustertest.NewRunner(clustertest.EchoPipeline)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close(t.Context())) }()
	for _, wrong := range []jobs.Webhooks{{}, {Document: webhooks().Document}, {Document: webhooks().Document, Secrets: []string{"short"}}} {
		_, err = jobs.Start(t.Context(), s.Store, map[string]*runner.Runner{"third": r}, jobs.WithWebhooks(wrong))
		require.ErrorContains(t, err, "webhooks")
	}
}

// A machine is killed while the receiver has its document, and another one after its job has been
// canceled and before anything is stored about the webhook.
func TestAWebhookOutlivesItsMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := make(chan struct{})
	r := receiveWebhooks(t, func(n int) int {
		if n == 1 {
			<-release
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	folder := t.TempDir()
	settings := clustertest.Settings{
		Name: "first", URLs: []string{s.url}, Webhooks: true,
		Pipelines: map[string]string{"echo": clustertest.EchoPipeline, "hold": clustertest.HoldPipeline(folder, 1, "")},
	}
	first := machine(t, settings)
	ref := s.submit("echo", 1, jobs.WithWebhook(r.url))
	begun := receive(t, r.posts)
	testkit.Eventually(t, s.isEmpty("echo"), "the job has left its queue")
	held := s.submit("hold", "a", jobs.WithWebhook(r.url))
	clustertest.AwaitBegun(t, folder, "a", 1)
	first.Kill()
	close(release)
	require.NoError(t, s.Cancel(t.Context(), held))
	settings.Name = "second"
	machine(t, settings)
	got := map[string]posted{}
	for range 2 {
		p := receive(t, r.posts)
		got[p.Job] = p
	}
	assert.Equal(t, begun, got[ref.String()], "the same document and id")
	assert.Equal(t, jobs.Canceled, got[held.String()].State)
	s.awaitWebhook(ref, jobs.WebhookDelivered)
	s.awaitWebhook(held, jobs.WebhookDelivered)
	testkit.Eventually(t, s.isEmpty("hold"))
}

func TestAClosedServerLeavesADocumentToAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := make(chan struct{})
	defer close(release)
	r := receiveWebhooks(t, func(n int) int {
		if n == 1 {
			<-release
		}
		return http.StatusOK
	})
	server := s.serveWith("echo", clustertest.EchoPipeline, jobs.WithWebhooks(webhooks()))
	ref := s.submit("echo", 1, jobs.WithWebhook(r.url))
	first := receive(t, r.posts)
	server.Close()
	assert.Equal(t, jobs.WebhookPending, s.awaitWebhook(ref, jobs.WebhookPending).State)
	s.serveWith("echo", clustertest.EchoPipeline, jobs.WithWebhooks(webhooks()))
	assert.Equal(t, first, receive(t, r.posts))
	s.awaitWebhook(ref, jobs.WebhookDelivered)
}
