// Package httpjobs makes the jobs of package jobs those of an HTTP service:
//
//	serve.Handler(runners, serve.WithJobs(httpjobs.New(store)))
package httpjobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/serve"
)

// New returns the jobs of a store for [serve.WithJobs]. The store should have been opened with
// OrderedMaps, so that results are what calls return.
func New(store *jobs.Store) serve.Jobs { return queue{store} }

type queue struct{ store *jobs.Store }

// Document returns a function for the documents of webhooks; see [jobs.Webhooks]. They are those of the
// service below /v1/jobs, without the member webhook.
func Document(service *serve.Server) func(*jobs.Job) ([]byte, error) {
	return func(j *jobs.Job) ([]byte, error) { return service.JobDocument(jobOf(j)) }
}

// priorities are the names of priorities.
var priorities = map[serve.Priority]jobs.Priority{
	serve.PriorityHigh: jobs.High, serve.PriorityNormal: jobs.Normal, serve.PriorityLow: jobs.Low,
}

// Submit implements [serve.Jobs].
func (q queue) Submit(ctx context.Context, s serve.Submission) (*serve.Job, bool, error) {
	priority := priorities[s.Priority]
	ref, known, err := q.store.Submit(ctx, s.Pipeline, s.Input,
		jobs.WithID(s.ID), jobs.WithPriority(priority), jobs.WithSubmitter(s.Submitter), jobs.WithDigest(s.Digest), jobs.WithWebhook(s.Webhook))
	if err != nil {
		return nil, false, convert(err)
	}
	if known {
		j, err := q.Get(ctx, ref.Pipeline, ref.ID)
		return j, true, err
	}
	j := &serve.Job{ // what the queue has just taken; to read it again could fail
		Pipeline: ref.Pipeline, ID: ref.ID, State: string(jobs.Queued), Priority: string(priority), Submitter: s.Submitter, Digest: s.Digest,
		Submitted: time.Now(),
	}
	if s.Webhook != "" {
		j.Webhook = &serve.JobWebhook{URL: s.Webhook, State: string(jobs.WebhookPending)}
	}
	return j, false, nil
}

// Get implements [serve.Jobs].
func (q queue) Get(ctx context.Context, pipeline, id string) (*serve.Job, error) {
	j, err := q.store.Get(ctx, jobs.Ref{Pipeline: pipeline, ID: id})
	if err != nil {
		return nil, convert(err)
	}
	return jobOf(j), nil
}

// Page implements [serve.Jobs].
func (q queue) Page(ctx context.Context, pipeline string, query serve.JobQuery) ([]*serve.Job, bool, error) {
	found, more, err := q.store.Page(ctx, pipeline, jobs.Query{
		State: jobs.State(query.State), Submitter: query.Submitter, After: query.After, Limit: query.Limit,
	})
	page := make([]*serve.Job, len(found))
	for i, j := range found {
		page[i] = jobOf(j)
	}
	return page, more, convert(err)
}

// Follow implements [serve.Jobs].
func (q queue) Follow(ctx context.Context, pipeline, id string, each func(*serve.Job) bool) error {
	return convert(q.store.Follow(ctx, jobs.Ref{Pipeline: pipeline, ID: id}, func(j *jobs.Job) bool { return each(jobOf(j)) }))
}

// Result implements [serve.Jobs].
func (q queue) Result(ctx context.Context, pipeline, id string) (any, error) {
	v, err := q.store.Result(ctx, jobs.Ref{Pipeline: pipeline, ID: id})
	return v, convert(err)
}

// Cancel implements [serve.Jobs].
func (q queue) Cancel(ctx context.Context, pipeline, id string) error {
	return convert(q.store.Cancel(ctx, jobs.Ref{Pipeline: pipeline, ID: id}))
}

// jobOf converts a job.
func jobOf(j *jobs.Job) *serve.Job {
	of := &serve.Job{
		Pipeline: j.Pipeline, ID: j.ID, State: string(j.State), Priority: string(j.Priority), Submitter: j.Submitter, Digest: j.Digest,
		Submitted: j.Submitted, NotBefore: j.NotBefore, Begun: j.Begun, Ended: j.Ended, Machine: j.Machine,
		Begins: j.Begins, Failures: j.Failures, Err: j.Err, MayHaveRun: j.MayHaveRun,
	}
	if j.Progress != nil {
		of.Progress = &serve.JobProgress{Fraction: j.Progress.Fraction, Message: j.Progress.Message, Node: j.Progress.Node}
	}
	if w := j.Webhook; w != nil {
		of.Webhook = &serve.JobWebhook{URL: w.URL, State: string(w.State), Attempts: w.Attempts, Error: w.Error, Next: w.Next, Delivered: w.Delivered}
	}
	return of
}

// convert adds the error of package serve that says which problem an error is.
func convert(err error) error {
	var class error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jobs.ErrUnknown):
		class = serve.ErrNoJob
	case errors.Is(err, jobs.ErrEnded):
		class = serve.ErrJobState
	case errors.Is(err, jobs.ErrFull):
		class = serve.ErrJobsFull
	case errors.Is(err, jobs.ErrWebhook):
		class = serve.ErrWebhook
	case errors.Is(err, jobs.ErrDraining), isOfServers(err):
		class = serve.ErrJobsUnavailable
	default:
		return err
	}
	return fmt.Errorf("%w: %w", class, err)
}

// isOfServers reports whether the NATS servers could not be used, or have no queue of the pipeline
// yet, because this machine is about to create it.
func isOfServers(err error) bool {
	kind := runner.AsError(err).Kind
	return kind == runner.KindIO || kind == runner.KindManifest
}
