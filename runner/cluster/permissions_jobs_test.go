package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// The inboxes of the roles of jobs in the tests and in the table.
const (
	jobsInbox      = "_INBOX.jobs"
	submitterInbox = "_INBOX.submitter"
)

// The steps of the scenario of jobs, in their order.
const (
	stageTake   = "the start"
	stageJob    = "each job"
	stageLag    = "the lag in the metrics"
	stageAgain  = "a job that two machines are given"
	stageCancel = "`jobs cancel`"
	stageDead   = "a job that fails, and `jobs retry`"
	stageAside  = "an input or result that is larger than half a message"
	stageHook   = "a job with a webhook"
	stageTime   = "a job of a schedule"
)

// The streams of the jobs of the pipeline go.
const (
	queueStream  = "gophersnake-jobs-go"
	recordStream = "KV_gophersnake-jobs"
	deadStream   = "gophersnake-dead"
	inputStream  = "OBJ_gophersnake-job-inputs"
	resultStream = "OBJ_gophersnake-job-results"
	hookStream   = "gophersnake-webhooks"
)

// jobRoles are the roles of jobs with the least permissions that each needs.
func jobRoles() []role {
	publish := func(fails string, each ...string) (all []permission) {
		for i := 0; i < len(each); i += 2 {
			isFlow := strings.HasPrefix(each[i], "$JS.FC.")
			all = append(all, permission{verb: "publish", subject: each[i], purpose: each[i+1], fails: fails, sometimes: isFlow})
		}
		return all
	}
	return []role{
		{"jobs", "machine that serves jobs", concat(
			[]permission{
				{verb: "subscribe", subject: jobsInbox + ".>", purpose: "gets answers, and jobs", fails: stageTake},
				{verb: "subscribe", subject: "gophersnake.wake.*", purpose: "takes a job as soon as it is queued", fails: stageTake},
				{verb: "subscribe", subject: "gophersnake.owner.*", purpose: "says which jobs it runs, and cancels them", fails: stageTake},
			},
			publish(stageTake,
				"$JS.API.INFO", "creates the records, unless another program has",
				"$JS.API.STREAM.INFO."+recordStream, "finds the records",
				"$JS.API.STREAM.UPDATE."+recordStream, "creates them, unless another program has",
				"$JS.API.STREAM.CREATE."+recordStream, "creates them, unless another program has",
				"$JS.API.STREAM.INFO."+deadStream, "finds the dead letters",
				"$JS.API.STREAM.CREATE."+deadStream, "creates their stream, unless another program has",
				"$JS.API.STREAM.INFO."+queueStream, "finds the queue of the pipeline `go`",
				"$JS.API.STREAM.UPDATE."+queueStream, "creates it, or changes its limits",
				"$JS.API.STREAM.CREATE."+queueStream, "creates it, unless another program has",
				"$JS.API.CONSUMER.INFO."+queueStream+".*", "finds the priorities of the queue",
				"$JS.API.CONSUMER.CREATE."+queueStream+".>", "creates them, unless another program has",
				"$JS.API.CONSUMER.MSG.NEXT."+queueStream+".*", "takes jobs",
				"$JS.API.STREAM.INFO."+inputStream, "finds the large inputs",
				"$JS.API.STREAM.CREATE."+inputStream, "creates their bucket, unless another program has",
				"$JS.API.DIRECT.GET."+inputStream+".>", "reads large inputs",
				"$JS.API.CONSUMER.CREATE."+inputStream+".>", "reads them, and looks for those that have no job",
				"$JS.API.CONSUMER.DELETE."+inputStream+".*", "has looked",
				"$JS.API.CONSUMER.CREATE."+recordStream+".>", "looks for schedules",
				"$JS.API.CONSUMER.DELETE."+recordStream+".*", "has looked",
				"$JS.API.STREAM.INFO."+hookStream, "finds the webhooks that are to be posted; this and the next three only with `--webhook-secret`",
				"$JS.API.STREAM.CREATE."+hookStream, "creates their stream, unless another program has",
				"$JS.API.CONSUMER.CREATE."+hookStream+".>", "finds or creates their consumer",
				"$JS.API.CONSUMER.MSG.NEXT."+hookStream+".*", "takes webhooks",
			),
			publish(stageJob,
				"$KV.gophersnake-jobs.>", "stores what becomes of a job",
				"$JS.ACK."+queueStream+".>", "says that it runs a job, and that it has ended",
				"$JS.API.DIRECT.GET."+recordStream+".>", "sees whether a job is still its own",
			),
			publish(stageLag, "$JS.API.DIRECT.GET."+queueStream, "reads the time of the oldest job that waits"),
			publish(stageAgain,
				"gophersnake.owner.*", "asks another machine whether it runs a job",
				jobsInbox+".>", "answers another machine",
			),
			publish(stageDead, "gophersnake.dead.>", "stores dead letters"),
			publish(stageAside,
				"$JS.API.STREAM.PURGE."+inputStream, "deletes it after the job",
				"$O.gophersnake-job-inputs.>", "deletes it after the job",
				"$JS.FC."+inputStream+".>", "lets the server send the rest of it",
				"$JS.API.STREAM.INFO."+resultStream, "finds the bucket for large results",
				"$JS.API.STREAM.CREATE."+resultStream, "creates it, unless another program has",
				"$O.gophersnake-job-results.>", "stores a large result",
			),
			publish(stageHook,
				"gophersnake.webhook.>", "stores what is to be posted about a job that has ended",
				"$JS.ACK."+hookStream+".>", "says what has become of it",
			),
			publish(stageTime,
				"gophersnake.jobs.>", "queues the jobs of schedules",
				"gophersnake.wake.*", "wakes the machines",
			),
		)},
		{"submitter", "submitter", concat(
			[]permission{{verb: "subscribe", subject: submitterInbox + ".>", purpose: "gets answers", fails: stageJob}},
			publish(stageJob,
				"$JS.API.STREAM.INFO."+recordStream, "finds the records",
				"$JS.API.STREAM.INFO."+deadStream, "finds the dead letters",
				"$JS.API.DIRECT.GET."+recordStream+".>", "reads what becomes of jobs",
				"gophersnake.jobs.>", "queues jobs",
				"gophersnake.wake.*", "wakes the machines",
				"$JS.API.STREAM.INFO."+queueStream, "finds the queue of the pipeline `go`",
				"$JS.API.DIRECT.GET."+queueStream+".>", "reads whether a job is queued",
				"$JS.API.CONSUMER.CREATE."+recordStream+".>", "waits for jobs",
				"$JS.API.CONSUMER.DELETE."+recordStream+".*", "has waited",
			),
			publish(stageCancel,
				"$KV.gophersnake-jobs.>", "cancels and retries jobs",
				"$JS.API.STREAM.MSG.DELETE."+queueStream, "removes a job that it has canceled from the queue",
				"gophersnake.owner.*", "cancels a job that runs",
			),
			publish(stageDead,
				"$JS.API.DIRECT.GET."+deadStream+".>", "reads a dead letter",
				"$JS.API.STREAM.MSG.DELETE."+deadStream, "deletes it when it has queued the job again",
			),
			publish(stageAside,
				"$JS.API.STREAM.INFO."+inputStream, "finds the bucket for large inputs",
				"$O.gophersnake-job-inputs.>", "stores a large input",
				"$JS.API.STREAM.INFO."+resultStream, "finds the large results",
				"$JS.API.DIRECT.GET."+resultStream+".>", "reads a large result",
				"$JS.API.CONSUMER.CREATE."+resultStream+".>", "reads a large result",
				"$JS.API.CONSUMER.DELETE."+resultStream+".*", "has read a large result",
				"$JS.FC."+resultStream+".>", "lets the server send the rest of it",
			),
			publish(stageHook,
				"$JS.API.CONSUMER.INFO."+hookStream+".*", "sees whether a machine posts webhooks",
				"gophersnake.webhook.>", "stores what is to be posted about a job that it has canceled",
			),
		)},
	}
}

func concat(parts ...[]permission) (all []permission) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// jobScenario is what the scenario of jobs has beside that of calls.
type jobScenario struct {
	machine, submitter *jobs.Store
	runner             *runner.Runner
	servers            []*jobs.Server
	running            jobs.Ref      // it runs until it is canceled
	subject            string        // of its acknowledgments
	delayed            jobs.Ref      // it stays in the queue until it is canceled
	begun              chan any      // the inputs of the runs that have begun
	fails              chan struct{} // closed when the node fails no more
}

func (j *jobScenario) close() {
	for _, server := range j.servers {
		server.Close()
	}
}

var jobStages = []stage{
	{stageTake, (*scenario).takeJobs}, {stageJob, (*scenario).oneJob}, {stageLag, (*scenario).measureJobs},
	{stageAgain, (*scenario).deliverAgain}, {stageCancel, (*scenario).cancelJobs}, {stageDead, (*scenario).failJob}, {stageAside, (*scenario).largeJob},
	{stageHook, (*scenario).hookJob}, {stageTime, (*scenario).scheduleJob},
}

func (s *scenario) openJobs(user string) (*jobs.Store, error) {
	return jobs.Open(s.ctx, s.conns[user], jobs.Config{Bytes: 16 << 20, AckWait: 600 * time.Millisecond})
}

// takeJobs starts a machine, and waits until it has looked for jobs and for inputs without a job.
func (s *scenario) takeJobs() (err error) {
	s.jobs.begun, s.jobs.fails = make(chan any, 100), make(chan struct{})
	s.jobs.runner, err = clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", s.job))
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { assert.NoError(s.t, s.jobs.runner.Close(context.Background())) })
	looked := s.overhear("$JS.API.CONSUMER.MSG.NEXT."+queueStream+".>", "$JS.API.CONSUMER.MSG.NEXT."+hookStream+".>",
		"$JS.API.CONSUMER.DELETE."+inputStream+".>", "$JS.API.CONSUMER.DELETE."+recordStream+".>")
	if s.jobs.machine, err = s.openJobs("jobs"); err == nil {
		err = s.serveJobs()
	}
	if err != nil {
		return err
	}
	return looked()
}

func (s *scenario) serveJobs() error {
	server, err := jobs.Start(s.ctx, s.jobs.machine, map[string]*runner.Runner{"go": s.jobs.runner}, jobs.WithSlots("go", 1), jobs.WithWebhooks(jobs.Webhooks{
		Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, Allow: []string{"127.0.0.1"},
		Document: func(j *jobs.Job) ([]byte, error) { return json.Marshal(j.State) },
	}))
	if err == nil {
		s.jobs.servers = append(s.jobs.servers, server)
	}
	return err
}

// job is the node of the jobs.
func (s *scenario) job(ctx context.Context, in runner.Input) (any, error) {
	s.jobs.begun <- in.Value
	switch in.Value {
	case "hold":
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "cancel":
		<-ctx.Done()
		return nil, ctx.Err()
	case "fail":
		select {
		case <-s.jobs.fails:
		default:
			return nil, runner.NewError(runner.KindExecution, "it fails")
		}
	}
	return in.Value, nil
}

// submit queues a job.
func (s *scenario) submit(input any, opts ...jobs.SubmitOption) (jobs.Ref, error) {
	ref, _, err := s.jobs.submitter.Submit(s.ctx, "go", input, opts...)
	return ref, err
}

// awaitJob waits until a job is in a state.
func (s *scenario) awaitJob(ref jobs.Ref, state jobs.State) error {
	j, err := s.jobs.submitter.Wait(s.ctx, ref)
	if err == nil && j.State != state {
		err = fmt.Errorf("the job is %s: %w", j.State, errors.Join(j.Err))
	}
	return err
}

// awaitRun waits until the node has begun a run.
func (s *scenario) awaitRun() error {
	select {
	case <-s.jobs.begun:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// The acknowledgments of jobs.
const (
	inProgress = "+WPI"
	givenBack  = "-NAK"
)

// acknowledged lets the administrator see what machines say to the server about jobs. Wait waits
// until they have said a text n times, and returns the subject.
func (s *scenario) acknowledged(text string) (wait func(n int) (subject string, err error)) {
	sub, err := s.admin.NATS().SubscribeSync("$JS.ACK.>")
	require.NoError(s.t, err)
	require.NoError(s.t, s.admin.NATS().Flush())
	return func(n int) (string, error) {
		defer func() { _ = sub.Unsubscribe() }()
		for {
			msg, err := sub.NextMsgWithContext(s.ctx)
			if err != nil {
				return "", err
			}
			if strings.HasPrefix(string(msg.Data), text) {
				n--
			}
			if n == 0 {
				return msg.Subject, nil
			}
		}
	}
}

// oneJob takes so long that the machine looks whether the job is still its own.
func (s *scenario) oneJob() (err error) {
	if s.jobs.submitter, err = s.openJobs("submitter"); err != nil {
		return err
	}
	if s.jobs.delayed, err = s.submit("x", jobs.WithStart(time.Now().Add(time.Hour))); err == nil {
		_, err = s.jobs.submitter.Get(s.ctx, s.jobs.delayed)
	}
	if err != nil {
		return err
	}
	woken, progress := s.overhear("gophersnake.wake.*"), s.acknowledged(inProgress)
	ref, err := s.submit("hold", jobs.WithID("x"))
	if err != nil {
		return err
	}
	_, err = progress(2)
	watched, done := s.overhear("$JS.API.CONSUMER.CREATE."+recordStream+".>"), make(chan error, 1)
	go func() { done <- s.awaitJob(ref, jobs.Done) }()
	err = errors.Join(err, watched()) // it waits before the job has ended
	close(s.release)
	if err = errors.Join(err, <-done); err == nil {
		_, err = s.jobs.submitter.Result(s.ctx, ref)
	}
	return errors.Join(err, s.awaitRun(), woken())
}

// measureJobs asks for the metrics while one job runs and one waits.
func (s *scenario) measureJobs() (err error) {
	progress := s.acknowledged(inProgress)
	if s.jobs.running, err = s.submit("cancel"); err != nil {
		return err
	}
	if s.jobs.subject, err = progress(1); err != nil {
		return err
	}
	if _, err = s.submit("x"); err != nil { // it waits, because the machine has one slot
		return err
	}
	s.jobs.servers[0].Metrics()
	return nil
}

// deliverAgain lets a second machine be given the job that the first one runs.
func (s *scenario) deliverAgain() (err error) {
	refused := s.acknowledged(givenBack)
	if err = s.serveJobs(); err != nil {
		return err
	}
	if err = s.admin.NATS().Publish(s.jobs.subject, []byte(givenBack)); err != nil {
		return err
	}
	_, err = refused(2) // the first one is that of the test
	return err
}

func (s *scenario) cancelJobs() error {
	told := s.overhear("gophersnake.owner.*")
	for _, ref := range []jobs.Ref{s.jobs.running, s.jobs.delayed} {
		if err := s.jobs.submitter.Cancel(s.ctx, ref); err != nil {
			return err
		}
	}
	return told()
}

func (s *scenario) failJob() error {
	ref, err := s.submit("fail")
	if err == nil {
		err = s.awaitJob(ref, jobs.Failed)
	}
	close(s.jobs.fails)
	if err == nil {
		err = s.jobs.submitter.Retry(s.ctx, ref)
	}
	if err == nil {
		err = s.awaitJob(ref, jobs.Done)
	}
	return err
}

func (s *scenario) largeJob() error {
	deleted := s.overhear("$JS.API.STREAM.PURGE." + inputStream)
	ref, err := s.submit(make([]byte, 2<<20))
	if err == nil {
		err = s.awaitJob(ref, jobs.Done)
	}
	if err == nil {
		_, err = s.jobs.submitter.Result(s.ctx, ref)
	}
	if err != nil {
		return err
	}
	return deleted()
}

// hookJob submits a job with a webhook, and cancels one before it begins.
func (s *scenario) hookJob() error {
	posted := make(chan bool, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posted <- true }))
	defer receiver.Close()
	for _, start := range []time.Time{{}, time.Now().Add(time.Hour)} {
		settled := s.overhear("$JS.ACK." + hookStream + ".>")
		ref, err := s.submit("x", jobs.WithWebhook(receiver.URL), jobs.WithStart(start))
		if err == nil && !start.IsZero() {
			err = s.jobs.submitter.Cancel(s.ctx, ref)
		}
		if err != nil {
			return err
		}
		select {
		case <-posted:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		if err := settled(); err != nil {
			return err
		}
	}
	return nil
}

// scheduleJob adds a schedule, and lets it be one whose last time is long ago.
func (s *scenario) scheduleJob() error {
	err := s.jobs.submitter.AddSchedule(s.ctx, jobs.Schedule{Name: "x", Pipeline: "go", Cron: "@hourly", Input: "x"})
	if err != nil {
		return err
	}
	js, err := jetstream.New(s.admin.NATS())
	require.NoError(s.t, err)
	records, err := js.KeyValue(s.ctx, "gophersnake-jobs")
	require.NoError(s.t, err)
	entry, err := records.Get(s.ctx, "=schedule.x")
	require.NoError(s.t, err)
	var record map[string]any
	require.NoError(s.t, msgpack.Unmarshal(entry.Value(), &record))
	record["last"] = time.Now().Add(-24 * time.Hour)
	data, err := msgpack.Marshal(record)
	require.NoError(s.t, err)
	_, err = records.Put(s.ctx, "=schedule.x", data)
	require.NoError(s.t, err)
	queued := s.overhear("gophersnake.jobs.>")
	woken, err := s.admin.NATS().SubscribeSync("gophersnake.wake.*")
	require.NoError(s.t, err)
	require.NoError(s.t, s.admin.NATS().Publish("gophersnake.wake.go", []byte("schedules")))
	for err = queued(); err == nil; {
		var msg *nats.Msg
		if msg, err = woken.NextMsgWithContext(s.ctx); err == nil && string(msg.Data) == string(jobs.Normal) {
			break
		}
	}
	return errors.Join(err, woken.Unsubscribe())
}
