package httpjobs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/serve"
)

func TestARunThatPrefersToBeAsynchronousIsAJob(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo", jobs.Config{}, nil)
	a := s.submit("echo", `"some text"`, "X-Priority", "low")
	assert.True(t, strings.HasPrefix(a.URL, "/v1/jobs/echo/"), a.URL)
	assert.Equal(t, "queued", a.State)
	assert.Equal(t, "low", a.Priority)
	done := s.await(a.URL, "done")
	assert.Equal(t, a.ID, done.ID)
	assert.Equal(t, "low", done.Priority)
	assert.Equal(t, "\"some text\"\n", s.get(a.URL+"/result").text)
	text := s.get(a.URL+"/result", "Accept", "text/plain")
	assert.Equal(t, "some text", text.text)
	assert.Equal(t, "text/plain; charset=utf-8", text.header.Get("Content-Type"))
	assert.Equal(t, http.StatusNotAcceptable, s.get(a.URL+"/result", "Accept", "audio/wav").status)
	ordered := s.submit("echo", `{"z":1,"a":9007199254740993}`)
	s.await(ordered.URL, "done")
	assert.Equal(t, `{"z":1,"a":9007199254740993}`+"\n", s.get(ordered.URL+"/result").text)
	for _, path := range []string{"", "/result", "/events"} {
		assert.Equal(t, http.StatusNotFound, s.get("/v1/jobs/echo/other"+path).status, path)
		assert.Equal(t, http.StatusNotFound, s.get("/v1/jobs/other/other"+path).status, path)
	}
	deep := s.do(http.MethodPost, "/v1/pipelines/echo", strings.Repeat("[", 500)+strings.Repeat("]", 500), "Prefer", "respond-async")
	call := s.do(http.MethodPost, "/v1/pipelines/echo", strings.Repeat("[", 500)+strings.Repeat("]", 500))
	assert.Equal(t, call.status, deep.status, deep.text)
}

func TestOnlyARunWithOneInputAndOneResultIsAJob(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo", jobs.Config{}, nil)
	for name, a := range map[string]answer{
		"a call of a node":     s.do(http.MethodPost, "/v1/pipelines/echo/nodes/echo", "1", "Prefer", "respond-async"),
		"a stream of results":  s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "respond-async", "Accept", "application/x-ndjson"),
		"a stream of inputs":   s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "respond-async", "Content-Type", "application/x-ndjson"),
		"another preference":   s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "wait=10, return=minimal"),
		"a part of a word":     s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "respond-async-not"),
		"no preference at all": s.do(http.MethodPost, "/v1/pipelines/echo", "1"),
	} {
		assert.Equal(t, http.StatusOK, a.status, name)
		assert.Empty(t, a.header.Get("Preference-Applied"), name)
	}
	a := s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "wait=10, Respond-Async; x=1")
	assert.Equal(t, http.StatusAccepted, a.status, a.text)
}

func TestAKeyStandsForOneJob(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo", jobs.Config{}, nil)
	first := s.submit("echo", "1", "Idempotency-Key", "monday-1")
	assert.Equal(t, "monday-1", first.ID)
	assert.Empty(t, first.header.Get("Idempotency-Replayed"))
	again := s.submit("echo", "1", "Idempotency-Key", "monday-1")
	assert.Equal(t, first.URL, again.URL)
	assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	s.await(first.URL, "done")
	assert.Equal(t, "done", s.submit("echo", "1", "Idempotency-Key", "monday-1").State)
	other := s.do(http.MethodPost, "/v1/pipelines/echo", "2", "Prefer", "respond-async", "Idempotency-Key", "monday-1")
	assert.Equal(t, http.StatusConflict, other.status)
	assert.Equal(t, "urn:gophersnake:problem:key-conflict", other.Type)
	assert.Equal(t, "1\n", s.get(first.URL+"/result").text)
	for _, key := range []string{"..", "a/b c", strings.Repeat("k", 255)} {
		a := s.submit("echo", "1", "Idempotency-Key", key)
		assert.Equal(t, a.ID, s.submit("echo", "1", "Idempotency-Key", key).ID)
		s.await(a.URL, "done")
	}
	// The id of a job from the command line may be any text.
	_, _, err := s.Submit(t.Context(), "echo", 5, jobs.WithID("by hand"))
	require.NoError(t, err)
	s.await("/v1/jobs/echo/by%20hand", "done")
}

func TestAFailedJobHasTheProblemOfACall(t *testing.T) {
	t.Parallel()
	s := newSite(t, "fail", jobs.Config{}, nil)
	call := s.do(http.MethodPost, "/v1/pipelines/fail", `"x"`)
	a := s.submit("fail", `"x"`)
	failed := s.await(a.URL, "failed")
	assert.Equal(t, "urn:gophersnake:problem:rejected", failed.Error.Type)
	assert.Equal(t, "fail", failed.Error.Node)
	result := s.get(a.URL + "/result")
	assert.Equal(t, http.StatusUnprocessableEntity, result.status)
	assert.Equal(t, call.Type, result.Type)
	assert.Equal(t, call.Detail, result.Detail)
	assert.Equal(t, result.header.Get("X-Request-Id"), result.RequestID)
}

func TestAJobIsCanceled(t *testing.T) {
	t.Parallel()
	s := newSite(t, "hold", jobs.Config{}, nil)
	running := s.submit("hold", `"a"`)
	s.await(running.URL, "running")
	queued := s.submit("hold", `"b"`)
	for _, a := range []answer{queued, running} {
		result := s.get(a.URL + "/result")
		assert.Equal(t, http.StatusConflict, result.status)
		assert.Equal(t, "urn:gophersnake:problem:job-state", result.Type)
		for range 2 {
			canceled := s.do(http.MethodDelete, a.URL, "")
			assert.Equal(t, http.StatusOK, canceled.status, canceled.text)
			assert.Equal(t, "canceled", canceled.State)
		}
		assert.Equal(t, http.StatusConflict, s.get(a.URL+"/result").status)
	}
	s.release()
	done := s.submit("hold", `"c"`)
	s.await(done.URL, "done")
	refused := s.do(http.MethodDelete, done.URL, "")
	assert.Equal(t, http.StatusConflict, refused.status)
	assert.Equal(t, "urn:gophersnake:problem:job-state", refused.Type)
	assert.Equal(t, http.StatusNotFound, s.do(http.MethodDelete, "/v1/jobs/hold/other", "").status)
}

func TestEventsShowStatesAndProgressAndAHeartbeat(t *testing.T) {
	t.Parallel()
	proceed := make(chan bool)
	s := newSite(t, "", jobs.Config{}, func(ctx context.Context, _ runner.Input) (any, error) {
		jobs.Report(ctx, jobs.Progress{Fraction: 0.5, Message: "half", Node: "go"})
		<-proceed
		return "done", nil
	}, serve.WithStallTimeout(300*time.Millisecond))
	a := s.submit("go", "1")
	events, lines := s.lines(a.URL+"/events"), s.lines(a.URL+"/events", "Accept", "application/x-ndjson")
	expect(t, events, "event: job")
	expect(t, events, `data: {`, `"fraction":0.5`, `"half"`, `"node":"go"`, `"state":"running"`)
	assert.Equal(t, ":", expect(t, events, ":")[:1])
	close(proceed)
	expect(t, events, `data: {`, `"state":"done"`)
	expect(t, events, "event: end")
	expect(t, lines, `{"job":`, `"state":"done"`)
	for range lines { // until the end
	}
	ended := s.lines(a.URL + "/events")
	expect(t, ended, `"state":"done"`)
	expect(t, ended, "event: end")
	assert.Equal(t, http.StatusNotAcceptable, s.get(a.URL+"/events", "Accept", "audio/wav").status)
	assert.Equal(t, http.StatusOK, s.do(http.MethodHead, a.URL+"/events", "").status)
}

func TestJobsAreListedInPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo hold", jobs.Config{}, nil)
	held := s.submit("hold", `"x"`, "Idempotency-Key", "0")
	s.await(held.URL, "running")
	want := []string{}
	for i := range 3 {
		key := fmt.Sprint("k", i)
		s.await(s.submit("echo", "1", "Idempotency-Key", key).URL, "done")
		want = append(want, "echo/"+key)
	}
	want = append(want, "hold/0")
	for i := range 3 {
		want = append(want, s.submit("hold", `"x"`, "Idempotency-Key", fmt.Sprint("q", i)).Job)
	}
	list := func(query string) (all []string, pages int) {
		after := ""
		for {
			page := s.get("/v1/jobs?" + query + "&after=" + url.QueryEscape(after))
			require.Equal(t, http.StatusOK, page.status, page.text)
			for _, j := range page.Jobs {
				all = append(all, j.Job)
			}
			if pages++; page.Next == "" {
				return all, pages
			}
			after = page.Next
		}
	}
	all, pages := list("limit=2")
	assert.Equal(t, want, all)
	assert.Equal(t, 4, pages)
	all, pages = list("")
	assert.Equal(t, want, all)
	assert.Equal(t, 1, pages)
	all, _ = list("pipeline=hold&state=queued&limit=1")
	assert.Equal(t, []string{"hold/q0", "hold/q1", "hold/q2"}, all)
	all, _ = list("state=done")
	assert.Equal(t, want[:3], all)
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "state=ended", "state="} {
		assert.Equal(t, http.StatusBadRequest, s.get("/v1/jobs?"+query).status, query)
	}
	assert.Equal(t, http.StatusNotFound, s.get("/v1/jobs?pipeline=other").status)
	s.release()
}

func TestAJobIsVisibleOnlyToItsTokenAndToAdmins(t *testing.T) {
	t.Parallel()
	auth := func(secret string) []string { return []string{"Authorization", "Bearer " + secret} }
	const one, two, admin = "0123456789abcdef-one", "0123456789abcdef-two", "0123456789abcdef-admin"
	s := newSite(t, "echo fail", jobs.Config{}, nil, serve.WithTokens(serve.Token{Secret: one}, serve.Token{Secret: two}, serve.Token{Secret: admin, Admin: true}))
	key := []string{"Idempotency-Key", "same"}
	first := s.submit("echo", "1", append(auth(one), key...)...)
	second := s.submit("echo", "2", append(auth(two), key...)...)
	assert.NotEqual(t, first.URL, second.URL, "each token has its own keys")
	s.await(first.URL, "done", auth(one)...)
	s.await(first.URL, "done", auth(admin)...)
	byHand, _, err := s.Submit(t.Context(), "echo", 1, jobs.WithID("0-by-hand"))
	require.NoError(t, err)
	for _, path := range []string{first.URL, first.URL + "/result", first.URL + "/events", "/v1/jobs/" + byHand.String()} {
		assert.Equal(t, http.StatusNotFound, s.get(path, auth(two)...).status, path)
		assert.Equal(t, http.StatusOK, s.await2xx(path, auth(admin)...), path)
		assert.Equal(t, http.StatusUnauthorized, s.get(path).status, path)
	}
	assert.Equal(t, http.StatusNotFound, s.do(http.MethodDelete, first.URL, "", auth(two)...).status)
	assert.Equal(t, []string{first.Job}, s.jobs(auth(one)...))
	assert.Equal(t, []string{second.Job}, s.jobs(auth(two)...))
	all := []string{"echo/0-by-hand", first.Job, second.Job}
	slices.Sort(all)
	assert.Equal(t, all, s.jobs(auth(admin)...))
	assert.Equal(t, http.StatusUnauthorized, s.get("/v1/jobs").status)
	failed := s.submit("fail", `"x"`, auth(one)...)
	s.await(failed.URL, "failed", auth(one)...)
	require.NoError(t, s.Retry(t.Context(), jobs.Ref{Pipeline: "fail", ID: failed.ID}))
	s.await(failed.URL, "failed", auth(one)...)
	assert.Equal(t, http.StatusNotFound, s.get(failed.URL, auth(two)...).status)
}

func TestTheOpenAPIDocumentHasTheResourcesOfJobs(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo", jobs.Config{}, nil)
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	require.NoError(t, json.Unmarshal([]byte(s.get("/openapi.json").text), &doc))
	assert.Contains(t, doc.Paths["/v1/pipelines/echo"]["post"].Responses, "202")
	assert.NotContains(t, doc.Paths["/v1/pipelines/echo/nodes/echo"]["post"].Responses, "202")
	for path, methods := range map[string][]string{"": {"get", "delete"}, "/result": {"get"}, "/events": {"get"}} {
		for _, method := range methods {
			assert.Contains(t, doc.Paths["/v1/jobs/{pipeline}/{id}"+path][method].Responses, "404", path)
		}
	}
	assert.Contains(t, doc.Paths["/v1/jobs"]["get"].Responses, "200")
}

func TestAServiceThatDrainsTakesNoJobsAndEndsEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, "hold", jobs.Config{}, nil)
	defer s.release()
	a := s.submit("hold", `"x"`)
	s.await(a.URL, "running")
	events := s.lines(a.URL + "/events")
	expect(t, events, `"state":"running"`)
	s.drain()
	expect(t, events, "event: error")
	expect(t, events, "urn:gophersnake:problem:draining")
}

func TestAQueueThatIsFullOrDrainsRefusesJobs(t *testing.T) {
	t.Parallel()
	s := newSite(t, "echo hold", jobs.Config{Jobs: 1}, nil)
	defer s.release()
	s.await(s.submit("hold", `"x"`).URL, "running")
	full := s.do(http.MethodPost, "/v1/pipelines/hold", `"y"`, "Prefer", "respond-async")
	assert.Equal(t, http.StatusTooManyRequests, full.status, full.text)
	assert.Equal(t, "urn:gophersnake:problem:queue-full", full.Type)
	assert.NotEmpty(t, full.header.Get("Retry-After"))
	require.NoError(t, s.Drain(t.Context(), "echo"))
	drains := s.do(http.MethodPost, "/v1/pipelines/echo", "1", "Prefer", "respond-async")
	assert.Equal(t, http.StatusServiceUnavailable, drains.status, drains.text)
	assert.Equal(t, "urn:gophersnake:problem:jobs-unavailable", drains.Type)
}
