package serve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// Jobs is a queue of runs that outlive their requests; see [WithJobs]. Its methods may be called
// concurrently. Their errors wrap [ErrNoJob], [ErrJobState], [ErrJobsFull],
// [ErrJobsUnavailable] or [ErrWebhook] if one of them applies.
type Jobs interface {
	// Submit queues a job. If its id is known, it returns that job, and known is true.
	Submit(ctx context.Context, s Submission) (j *Job, known bool, err error)
	// Get returns a job.
	Get(ctx context.Context, pipeline, id string) (*Job, error)
	// Page returns jobs of a pipeline in the order of their ids, and whether there are more.
	Page(ctx context.Context, pipeline string, q JobQuery) (page []*Job, more bool, err error)
	// Follow calls each with a job as it is, and after each change, until the job has ended or
	// each returns false. It may call each again if nothing has changed.
	Follow(ctx context.Context, pipeline, id string, each func(*Job) bool) error
	// Result returns the result of a job that is done.
	Result(ctx context.Context, pipeline, id string) (any, error)
	// Cancel cancels a job that has not ended.
	Cancel(ctx context.Context, pipeline, id string) error
}

// The errors of [Jobs].
var (
	ErrNoJob           = errors.New("there is no such job")
	ErrJobState        = errors.New("the job has ended")
	ErrJobsFull        = errors.New("the queue of jobs is full")
	ErrJobsUnavailable = errors.New("the queue of jobs cannot be used now")
	ErrWebhook         = errors.New("the job cannot have this webhook")
)

// Submission is a job that a client submits.
type Submission struct {
	Pipeline string
	Input    any
	// ID is empty if the client has sent no Idempotency-Key.
	ID       string
	Priority Priority
	// Submitter stands for the token of the client; it is empty without one. Digest stands for
	// the body.
	Submitter, Digest string
	// Webhook is the URL to which the document of the job is to be posted when it has ended, or empty.
	Webhook string
}

// JobQuery selects jobs for [Jobs.Page].
type JobQuery struct {
	// State and Submitter are those of the jobs; if one is empty, it does not matter.
	State, Submitter string
	// After is the id after which the page begins, and Limit how many jobs it has at most.
	After string
	Limit int
}

// Job is the state of a job.
type Job struct {
	Pipeline, ID string
	// State is queued, running, done, failed or canceled. The last three are final.
	State string
	// Priority is high, normal or low.
	Priority string
	// Submitter and Digest are those of the [Submission], empty if the job was not submitted here.
	Submitter, Digest string
	// The times are zero until that has happened, or if the job was not delayed.
	Submitted, NotBefore, Begun, Ended time.Time
	// Machine has run the job last.
	Machine string
	// Begins is how often a machine has begun the job, and Failures how often it has failed.
	Begins, Failures int
	Progress         *JobProgress
	// Err is the error of a failed job.
	Err *runner.Error
	// MayHaveRun says that the job has no result, but a node may have done its work.
	MayHaveRun bool
	// Webhook is nil if the job has none.
	Webhook *JobWebhook
}

// JobProgress is how far a job is.
type JobProgress struct {
	Fraction float64 `json:"fraction,omitempty"` // from 0 to 1; 0 if it is unknown
	Message  string  `json:"message,omitempty"`
	Node     string  `json:"node,omitempty"` // that has reported it, if it is known
}

// JobWebhook is how far the webhook of a job is.
type JobWebhook struct {
	URL string `json:"url"`
	// State is pending, failing, delivered or given-up. The last two are final.
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	// Error is that of the last attempt, and Next when there will be another one.
	Error     string    `json:"error,omitempty"`
	Next      time.Time `json:"next,omitzero"`
	Delivered time.Time `json:"delivered,omitzero"`
}

// webhookHeader has the URL of a job's webhook.
const webhookHeader = "X-Webhook"

// The states of jobs.
const (
	jobDone     = "done"
	jobFailed   = "failed"
	jobCanceled = "canceled"
)

var jobStates = []string{"queued", "running", jobDone, jobFailed, jobCanceled}

// WithJobs lets clients submit runs as jobs, by the header "Prefer: respond-async", and adds the
// resources below /v1/jobs. Package httpjobs has the queue of package cluster/jobs. Without this
// option, the handler ignores the header.
func WithJobs(j Jobs) Option { return func(o *options) { o.jobs = j } }

// routeJobs adds the resources of jobs, if there are jobs.
func (h *handler) routeJobs() {
	if h.jobs == nil {
		return
	}
	get := func(function func(*exchange) error) func(*exchange) error {
		return func(x *exchange) error {
			return x.process(func(context.CancelCauseFunc) error { return function(x) })
		}
	}
	const job = "/v1/jobs/{name}/{job}"
	h.route("/v1/jobs", methods{http.MethodGet: get((*exchange).listJobs)})
	h.route(job, methods{http.MethodGet: get((*exchange).showJob), http.MethodDelete: get((*exchange).cancelJob)})
	h.route(job+"/result", methods{http.MethodGet: get((*exchange).jobResult)})
	h.route(job+"/events", methods{http.MethodGet: get((*exchange).jobEvents)})
}

// asyncPreference is the preference of RFC 7240 for a job.
const asyncPreference = "respond-async"

// wantsJob reports whether the client prefers the run of a pipeline to be a job.
func (x *exchange) wantsJob() bool {
	if x.h.jobs == nil || x.node != "" || x.protocol != nil {
		return false
	}
	for preference := range strings.SplitSeq(strings.Join(x.req.Header.Values("Prefer"), ","), ",") {
		name, _, _ := strings.Cut(preference, ";")
		if strings.EqualFold(strings.TrimSpace(name), asyncPreference) {
			return true
		}
	}
	return false
}

// submit queues the body as the input of a job. The key is that of the request, or empty.
func (x *exchange) submit(key string) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	input, err := x.input(body)
	if err != nil {
		return err
	}
	webhook := x.req.Header.Get(webhookHeader)
	about := fmt.Appendf(nil, "%q ", x.req.Header.Get("Content-Type"))
	if webhook != "" {
		about = fmt.Appendf(about, "%q ", webhook)
	}
	sum := sha256.Sum256(append(about, body...))
	s := Submission{
		Pipeline: x.pipeline.name, Input: input, ID: x.jobID(key), Priority: x.priority,
		Submitter: x.submitter(), Digest: hex.EncodeToString(sum[:]), Webhook: webhook,
	}
	j, known, err := x.h.jobs.Submit(x.ctx, s)
	if err != nil {
		return jobError(err)
	}
	if known && (j.Submitter != s.Submitter || j.Digest != "" && j.Digest != s.Digest) {
		return fault(keyConflict, "the key was used for a job with another body or webhook").withHint("use a new key for each job")
	}
	header := x.w.Header()
	header.Set("Location", urlOf(j))
	header.Set("Preference-Applied", asyncPreference)
	if known {
		header.Set("Idempotency-Replayed", "true")
	}
	return x.sendJSON(http.StatusAccepted, x.jobDocument(j))
}

// job returns the job that the path names. To a client that may not see it, it does not exist.
func (x *exchange) job() (*Job, error) {
	j, err := x.h.jobs.Get(x.ctx, x.pipeline.name, x.req.PathValue("job"))
	if err != nil {
		return nil, jobError(err)
	}
	return j, x.checkOwner(j)
}

// checkOwner returns an error if the client may not see a job.
func (x *exchange) checkOwner(j *Job) error {
	if owner := x.ownerOfJobs(); owner != "" && j.Submitter != owner {
		return jobError(ErrNoJob)
	}
	return nil
}

// ownerOfJobs returns the submitter whose jobs the client may see, empty if it may see all.
func (x *exchange) ownerOfJobs() string {
	if x.token == nil || x.token.Admin {
		return ""
	}
	return x.submitter()
}

// jobError returns the error of a request for an error of [Jobs].
func jobError(err error) error {
	detail := err.Error()
	if e, ok := errors.AsType[*runner.Error](err); ok {
		detail = cmp.Or(e.Message, detail)
	}
	switch {
	case errors.Is(err, ErrNoJob):
		return fault(notFound, "there is no such job").withHint("a job that has ended is kept for a time; the jobs are at /v1/jobs").aboutURL()
	case errors.Is(err, ErrJobState):
		return fault(jobState, detail)
	case errors.Is(err, ErrJobsFull):
		return fault(queueFull, detail)
	case errors.Is(err, ErrJobsUnavailable):
		return fault(noJobs, detail)
	case errors.Is(err, ErrWebhook):
		return fault(malformed, detail)
	}
	return err
}

// jobDocument is a job as JSON.
type jobDocument struct {
	Job        string       `json:"job"`
	Pipeline   string       `json:"pipeline"`
	ID         string       `json:"id"`
	URL        string       `json:"url"`
	State      string       `json:"state"`
	Priority   string       `json:"priority"`
	Submitted  time.Time    `json:"submitted"`
	NotBefore  time.Time    `json:"not_before,omitzero"`
	Begun      time.Time    `json:"begun,omitzero"`
	Ended      time.Time    `json:"ended,omitzero"`
	Machine    string       `json:"machine,omitempty"`
	Begins     int          `json:"begins"`
	Failures   int          `json:"failures"`
	Progress   *JobProgress `json:"progress,omitempty"`
	MayHaveRun bool         `json:"may_have_run,omitempty"`
	Error      *problem     `json:"error,omitempty"`
	Webhook    *JobWebhook  `json:"webhook,omitempty"`
}

func urlOf(j *Job) string {
	return "/v1/jobs/" + url.PathEscape(j.Pipeline) + "/" + url.PathEscape(j.ID)
}

func (x *exchange) jobDocument(j *Job) jobDocument {
	d := jobDocument{
		Job: j.Pipeline + "/" + j.ID, Pipeline: j.Pipeline, ID: j.ID, URL: urlOf(j), State: j.State, Priority: j.Priority,
		Submitted: j.Submitted, NotBefore: j.NotBefore, Begun: j.Begun, Ended: j.Ended, Machine: j.Machine,
		Begins: j.Begins, Failures: j.Failures, Progress: j.Progress, MayHaveRun: j.MayHaveRun,
		Webhook: j.Webhook,
	}
	if j.Err != nil {
		of := *x
		of.pipeline, of.node, of.id = x.h.pipelines[j.Pipeline], "", "" // the problem is that of the job, not of this request
		d.Error = of.problemOf(j.Err)
	}
	return d
}

func (x *exchange) showJob() error {
	j, err := x.job()
	if err != nil {
		return err
	}
	return x.sendJSON(http.StatusOK, x.jobDocument(j))
}

// cancelJob cancels a job, and answers with it. A job that was canceled before is no error.
func (x *exchange) cancelJob() error {
	j, err := x.job()
	if err != nil {
		return err
	}
	if j.State != jobCanceled {
		if err := x.h.jobs.Cancel(x.ctx, j.Pipeline, j.ID); err != nil && !errors.Is(err, ErrJobState) {
			return jobError(err)
		}
		if j, err = x.job(); err != nil {
			return err
		}
	}
	if j.State != jobCanceled {
		return fault(jobState, "the job has ended: it is "+j.State)
	}
	return x.sendJSON(http.StatusOK, x.jobDocument(j))
}

// jobResult answers with the result of a job as the answer to a call has it, or with the error
// of a failed job.
func (x *exchange) jobResult() error {
	if !x.h.offers(x.accept) {
		return fault(notAcceptable, "there are no answers of type "+strings.Join(x.accept, ", ")).withHint("ask for application/json")
	}
	j, err := x.job()
	switch {
	case err != nil:
		return err
	case j.State == jobFailed && j.Err != nil:
		return j.Err
	case j.State != jobDone:
		return fault(jobState, "the job is "+j.State+" and has no result")
	}
	v, err := x.h.jobs.Result(x.ctx, j.Pipeline, j.ID)
	if err != nil {
		return jobError(err)
	}
	a, err := x.resultAnswer(v)
	if err == nil {
		x.send(a)
	}
	return err
}

// The numbers of jobs of a page.
const (
	defaultPage = 100
	largestPage = 1000
)

// listJobs answers with a page of jobs, in the order of their pipelines and ids.
func (x *exchange) listJobs() error {
	query := x.req.URL.Query()
	q := JobQuery{State: query.Get("state"), Submitter: x.ownerOfJobs(), Limit: defaultPage}
	if q.State != "" && !slices.Contains(jobStates, q.State) || query.Has("state") && q.State == "" {
		return fault(malformed, fmt.Sprintf("the parameter state is one of %s, not %.40q", strings.Join(jobStates, ", "), q.State))
	}
	if query.Has("limit") {
		var err error
		if q.Limit, err = strconv.Atoi(query.Get("limit")); err != nil || q.Limit < 1 || q.Limit > largestPage {
			return fault(malformed, fmt.Sprintf("the parameter limit is a number from 1 to %d, not %.40q", largestPage, query.Get("limit")))
		}
	}
	names := x.h.names
	if query.Has("pipeline") {
		if err := x.choose(query.Get("pipeline")); err != nil {
			return err
		}
		names = []string{x.pipeline.name}
	}
	page := struct {
		Jobs []jobDocument `json:"jobs"`
		Next string        `json:"next,omitempty"`
	}{Jobs: []jobDocument{}}
	from, after, _ := strings.Cut(query.Get("after"), "/")
	left := q.Limit
	for _, name := range names {
		if q.After = ""; name == from {
			q.After = after
		}
		if name < from {
			continue
		}
		q.Limit = left
		found, more, err := x.h.jobs.Page(x.ctx, name, q)
		if err != nil {
			return jobError(err)
		}
		for _, j := range found {
			page.Jobs = append(page.Jobs, x.jobDocument(j))
		}
		left -= len(found)
		if more || left == 0 && name != names[len(names)-1] {
			page.Next = page.Jobs[len(page.Jobs)-1].Job
			break
		}
	}
	return x.sendJSON(http.StatusOK, page)
}

// jobEvents answers with a stream of a job: its state now and after each change, until it has
// ended, the client leaves, its token ends, or the handler drains. If nothing changes, it
// sends a comment now and then.
func (x *exchange) jobEvents() error {
	form := x.eventForm()
	if form == "" {
		return fault(notAcceptable, "there are no events of type "+strings.Join(x.accept, ", ")).withHint("ask for " + typeEvents + " or " + typeLines)
	}
	first, err := x.job()
	if err != nil {
		return err
	}
	if x.req.Method == http.MethodHead {
		x.send(&answer{status: http.StatusOK, contentType: form})
		return nil
	}
	id := x.client().id
	if err := x.h.feed.join(id); err != nil {
		return err
	}
	defer x.h.feed.leave(id)
	ctx, cancel := context.WithCancel(x.ctx)
	changes, ended := make(chan *Job), make(chan error, 1)
	go func() {
		ended <- x.h.jobs.Follow(ctx, first.Pipeline, first.ID, func(j *Job) bool {
			select {
			case changes <- j:
				return true
			case <-ctx.Done():
				return false
			}
		})
		close(ended)
	}()
	defer func() {
		cancel()
		for range ended { // waits for the goroutine
		}
	}()
	return x.writeJob(newStreamWriter(x, form), first, changes, ended)
}

// eventForm returns the content type of the events that the client accepts most, empty if it
// accepts none.
func (x *exchange) eventForm() string {
	for _, mediaRange := range x.accept {
		for _, form := range []string{typeEvents, typeLines} {
			if matches(mediaRange, form) {
				return form
			}
		}
	}
	return ""
}

// writeJob writes the changes of a job until they end.
func (x *exchange) writeJob(out *streamWriter, first *Job, changes <-chan *Job, ended <-chan error) error {
	heartbeat := time.NewTicker(max(x.h.stall/3, time.Millisecond))
	defer heartbeat.Stop()
	var last string
	for {
		select {
		case j := <-changes:
			text, err := document.Encode(x.jobDocument(j), "")
			if err != nil || string(text) == last {
				break
			}
			last = string(text)
			if out.begin() != nil {
				return nil // the client has left
			}
			out.count++
			if out.put("job", text) != nil {
				return nil
			}
		case err := <-ended:
			if err != nil {
				return out.end(jobError(err))
			}
			return out.end(nil)
		case <-heartbeat.C:
			err := x.authenticateAgain()
			if err == nil {
				err = x.checkOwner(first)
			}
			if err != nil {
				return out.end(err)
			}
			if out.begin() != nil || out.writeEmpty() != nil {
				return nil
			}
		case <-x.h.drained.Done():
			return out.end(fault(stopping, "the service drains; the job goes on"))
		case <-x.ctx.Done():
			return out.end(context.Cause(x.ctx))
		}
	}
}
