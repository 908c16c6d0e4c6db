package distributed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// submitters is how many jobs the submitter is about to submit at once, as gophersnake submit does.
const submitters = 64

// queue submits jobs of a pipeline, and waits for them.
type queue struct {
	store    *jobs.Store
	pipeline string

	mu      sync.Mutex
	ended   map[jobs.Ref]bool // jobs that have ended, and whose submitter has not looked yet
	changed *sync.Cond
	failed  error
}

// queue opens the queue of a pipeline.
func (f *fleet) queue(ctx context.Context, pipeline string) (*queue, error) {
	conn, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	store, err := jobs.Open(ctx, conn, jobs.Config{})
	if err != nil {
		return nil, err
	}
	q := &queue{store: store, pipeline: pipeline, ended: make(map[jobs.Ref]bool)}
	q.changed = sync.NewCond(&q.mu)
	watching, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { q.watch(watching) })
	f.addVoid(func() { stop(); done.Wait() })
	return q, nil
}

// watch notes the jobs that have ended.
func (q *queue) watch(ctx context.Context) {
	err := q.store.Watch(ctx, q.pipeline, func(j *jobs.Job) bool {
		if j.State.Ended() {
			q.mu.Lock()
			q.ended[j.Ref] = true
			q.mu.Unlock()
			q.changed.Broadcast()
		}
		return true
	})
	q.mu.Lock()
	q.failed = errors.Join(err, errors.New("the watch of the jobs has ended"))
	q.mu.Unlock()
	q.changed.Broadcast()
}

// task submits n jobs and gets all results.
func (q *queue) task(ctx context.Context, n int) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		started := time.Now()
		refs := make([]jobs.Ref, n)
		_, err := concurrently(n, submitters, func(i int) (err error) {
			refs[i], _, err = q.store.Submit(ctx, q.pipeline, smallText)
			return err
		})
		if err != nil {
			return 0, err
		}
		var group errgroup.Group
		group.SetLimit(submitters)
		for _, ref := range refs {
			if err = q.wait(ref); err != nil {
				break
			}
			group.Go(func() error {
				v, err := q.store.Result(ctx, ref)
				if err == nil && v != smallText {
					err = errOther
				}
				return err
			})
		}
		err = errors.Join(err, group.Wait())
		return time.Since(started), err
	}
}

// wait waits until a job has ended.
func (q *queue) wait(ref jobs.Ref) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.ended[ref] {
		if q.failed != nil {
			return q.failed
		}
		q.changed.Wait()
	}
	delete(q.ended, ref)
	return nil
}

// Queue is a peer of the jobs: a Python program that runs jobs.
type Queue struct{ Name, about, program, requirements string }

// Queues are all peers of the jobs.
var Queues = []Queue{
	{"celery", "Celery with Redis, `appendfsync always`", "celery_jobs.py", "celery"},
	{"ray", "Ray tasks, which nothing stores", "ray_tasks.py", "ray"},
}

// setUpJobs compares small jobs with one worker with tasks of Celery and Ray.
func setUpJobs(ctx context.Context, h Host, calls int) (_ []Table, _ func() error, err error) {
	var all stack
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	t := Table{Title: "Small jobs, one worker: submitted, run, and all results read", Rate: true}
	for _, server := range []struct {
		name  string
		syncs bool
	}{
		{"gophersnake jobs, `sync_interval: always`", true},
		{"gophersnake jobs, JetStream's own default", false},
	} {
		f, err := startFleet(ctx, h, server.syncs)
		if err != nil {
			return nil, nil, err
		}
		all.add(f.close)
		if err := f.machine(ctx, machineSettings{Pipelines: []string{"echo"}, Jobs: true}); err != nil {
			return nil, nil, err
		}
		q, err := f.queue(ctx, "echo")
		if err != nil {
			return nil, nil, err
		}
		task, err := warmed(Task{server.name, float64(calls), q.task(ctx, calls)})
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", server.name, err)
		}
		t.Tasks = append(t.Tasks, task)
	}
	for _, peer := range h.Queues() {
		task, closing, err := peer.task(ctx, h, calls)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			h.Skip(peer.about, err)
			continue
		}
		all.add(closing)
		t.Tasks = append(t.Tasks, task)
	}
	return []Table{t}, all.close, nil
}

// task starts the program, and runs some jobs.
func (q *Queue) task(ctx context.Context, h Host, n int) (_ Task, closing func() error, err error) {
	p, err := h.Python(ctx, q.program, q.requirements)
	if err != nil {
		return Task{}, nil, err
	}
	t, err := warmed(Task{q.about, float64(n), func() (time.Duration, error) {
		var answer struct {
			NS    time.Duration `json:"ns"`
			Error string        `json:"error"`
		}
		err := p.Request(map[string]any{"jobs": n, "value": smallText}, &answer)
		if err == nil && answer.Error != "" {
			err = errors.New(answer.Error)
		}
		return answer.NS, err
	}})
	if err != nil {
		return t, nil, errors.Join(err, p.Close())
	}
	return t, p.Close, nil
}
