package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs/httpjobs"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// servedJobs are the flags of serve about jobs, and then the server of the jobs.
type servedJobs struct {
	enabled bool
	state   string
	grace   time.Duration

	webhookSecrets string // a file
	webhookAllow   []string
	secrets        []string // those in the file

	store *jobs.Store
	conn  *cluster.Conn
	ended chan struct{} // closed when no job runs any more; nil until jobs are taken
	// taking has the server once jobs are taken; nil without --jobs.
	taking *atomic.Pointer[jobs.Server]
}

func (j *servedJobs) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&j.enabled, "jobs", false, "take jobs, which gophersnake submit queues, from the servers of --nats, or from a NATS server in this process")
	f.StringVar(&j.state, "state", "", "the `FOLDER` of the jobs (default: gophersnake in $XDG_STATE_HOME or ~/.local/state)")
	f.StringVar(&j.webhookSecrets, "webhook-secret", "", "post the ends of jobs to their webhooks, signed with the secret in this `FILE`")
	f.StringArrayVar(&j.webhookAllow, "webhook-allow", nil, "a `HOST`, address or prefix such as 10.0.0.0/8 that webhooks reach although it is not public, and without TLS; can be repeated")
}

// check returns an error if flags do not go together.
func (j *servedJobs) check() error {
	switch {
	case !j.enabled && j.state != "":
		return failure.Usagef("--state is the folder of the jobs, which --jobs takes")
	case !j.enabled && j.webhookSecrets != "":
		return failure.Usagef("--webhook-secret is for the jobs that --jobs takes")
	case j.webhookSecrets == "" && len(j.webhookAllow) > 0:
		return failure.Usagef("--webhook-allow is for webhooks, which need --webhook-secret")
	}
	return nil
}

// options returns the options of the server of the jobs. The documents of jobs are those of the
// HTTP service.
func (j *servedJobs) options(service *serve.Server) []jobs.ServerOption {
	if len(j.secrets) == 0 {
		return nil
	}
	return []jobs.ServerOption{jobs.WithWebhooks(jobs.Webhooks{Secrets: j.secrets, Allow: j.webhookAllow, Document: httpjobs.Document(service)})}
}

// open opens the jobs, if they are asked for: those of the cluster that this process is a member
// of, or else those of a NATS server that it starts.
func (j *servedJobs) open(ctx context.Context, a *app, member *member) (err error) {
	if err := j.check(); err != nil || !j.enabled {
		return err
	}
	if j.webhookSecrets != "" {
		if j.secrets, err = jobs.ReadWebhookSecrets(j.webhookSecrets); err != nil {
			return err
		}
	}
	j.taking = new(atomic.Pointer[jobs.Server])
	logger := a.Slog()
	if member != nil {
		if j.state != "" {
			return failure.Usagef("--state and --nats exclude each other: the jobs are in the servers of --nats")
		}
		ctx, cancel := context.WithTimeout(ctx, program.NATSTimeout)
		defer cancel()
		j.store, err = jobs.Open(ctx, member.conn, program.JobsConfig(logger))
		return err
	}
	if j.state == "" {
		if j.state, err = program.StateDir(); err != nil {
			return err
		}
	}
	j.store, j.conn, err = program.ConnectJobs(ctx, cluster.Config{StateDir: j.state, Name: "gophersnake serve --jobs", Logger: logger})
	return err
}

// serveOptions returns the option for the jobs over HTTP, if there are jobs.
func (j *servedJobs) serveOptions() []serve.Option {
	if j.store == nil {
		return nil
	}
	return []serve.Option{serve.WithJobs(httpjobs.New(j.store))}
}

// addMetrics adds the metrics of the jobs, once they are taken.
func (j *servedJobs) addMetrics(measures *metrics.Metrics) {
	taking := j.taking
	if taking == nil {
		return
	}
	measures.AddSource("jobs", func() []runner.Metric {
		if server := taking.Load(); server != nil {
			return server.Metrics()
		}
		return nil
	})
}

// start takes jobs until the context ends, and then lets those that run end within the drain
// timeout. The runners have been started.
func (j *servedJobs) start(ctx context.Context, a *app, service *serve.Server, pipelines []*servedPipeline) error {
	if j.store == nil {
		return nil
	}
	server, err := jobs.Start(ctx, j.store, runnersOf(pipelines), j.options(service)...)
	if err != nil {
		return err
	}
	j.taking.Store(server)
	j.ended = make(chan struct{})
	go func() {
		defer close(j.ended)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.grace)
		defer cancel()
		if err := server.Drain(grace); errors.Is(err, context.DeadlineExceeded) {
			a.Logger.Warn("jobs that run longer than the drain timeout are given back, or fail")
		}
		server.Close()
	}()
	return nil
}

// wait waits until no job runs. The context of start has ended.
func (j *servedJobs) wait() {
	if j.ended != nil {
		<-j.ended
	}
}

// close stops the NATS server, if there is one here. No job runs.
func (j *servedJobs) close() {
	if j.conn != nil {
		j.conn.Close()
	}
}
