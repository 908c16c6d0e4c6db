package server

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// memberFlags are the flags of serve about other machines.
type memberFlags struct {
	nats   program.NATSFlags
	name   string
	labels []string
}

func (m *memberFlags) add(c *cobra.Command) {
	m.nats.Add(c, "serve the pipelines to other machines, too, over NATS")
	f := c.Flags()
	f.StringVar(&m.name, "name", "", "the `NAME` of this machine for others (default: that of the host)")
	f.StringArrayVar(&m.labels, "label", nil, "a `LABEL` of this machine for others: gpu, or gpu=h200; can be repeated")
}

// member is this process as a machine of a cluster. A nil member is in no cluster.
type member struct {
	conn    *cluster.Conn
	options []cluster.MachineOption
	roster  *cluster.Roster
	machine atomic.Pointer[cluster.Machine] // nil until it is announced
	// executors call the nodes of the pipelines that run on other machines.
	executors []*cluster.Executor
}

// join connects to the servers of the flags. Without any, it returns nil.
func (a *app) join(ctx context.Context, flags *memberFlags) (*member, error) {
	if err := flags.nats.Check(); err != nil {
		return nil, err
	}
	if len(flags.nats.URLs) == 0 {
		if flags.name != "" || len(flags.labels) > 0 {
			return nil, failure.Usagef("--name and --label are for other machines, which call this one over NATS; name the servers with --nats URL")
		}
		return nil, nil
	}
	labels := make(map[string]string)
	for _, label := range flags.labels {
		key, value, hasValue := strings.Cut(label, "=")
		if key == "" {
			return nil, failure.Usagef("--label takes NAME or NAME=VALUE, not %q", label)
		}
		if !hasValue {
			value = "true"
		}
		labels[key] = value
	}
	opts := []cluster.MachineOption{cluster.WithLabels(labels), cluster.WithVersion(program.ReadVersion().Version)}
	if flags.name != "" {
		opts = append(opts, cluster.WithName(flags.name))
	}
	conn, err := a.ConnectNATS(ctx, &flags.nats, "gophersnake serve "+flags.name)
	if err != nil {
		return nil, err
	}
	return &member{conn: conn, options: opts, roster: cluster.NewRoster(conn)}, nil
}

// runnerOptions returns the options of the runner of a pipeline: nodes whose host is another machine
// run there, if that serves a pipeline of the same name.
func (m *member) runnerOptions(pipeline string) []runner.Option {
	if m == nil {
		return nil
	}
	executor := cluster.NewExecutor(m.conn, pipeline, m.options...)
	m.executors = append(m.executors, executor)
	return []runner.Option{runner.WithExecutor(executor)}
}

// announce makes the machine known. The runners have been started.
func (m *member) announce(ctx context.Context, pipelines []*servedPipeline) error {
	if m == nil {
		return nil
	}
	machine, err := cluster.Announce(ctx, m.conn, runnersOf(pipelines), m.options...)
	if err != nil {
		return failure.Cause(ctx, err)
	}
	m.machine.Store(machine)
	return nil
}

// leave makes the machine unknown at once, and waits for the calls that it has. Those that take
// longer fail.
func (m *member) leave(limit time.Duration) {
	if m == nil || m.machine.Load() == nil {
		return
	}
	machine := m.machine.Load()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_ = machine.Drain(ctx) // Close ends the calls that are left
	machine.Close()
}

// close closes the connection. The runners have been closed.
func (m *member) close() {
	if m != nil {
		for _, executor := range m.executors {
			executor.Close()
		}
		m.roster.Close()
		m.conn.Close()
	}
}

// metrics returns those of the machine, once it is announced.
func (m *member) metrics() []runner.Metric {
	if machine := m.machine.Load(); machine != nil {
		return machine.Metrics()
	}
	return nil
}

// serveOptions returns the options of the HTTP server that show the machines, and adds the
// metrics of this one.
func (m *member) serveOptions(measures *metrics.Metrics) []serve.Option {
	if m == nil {
		return nil
	}
	measures.AddSource("cluster", m.metrics)
	return []serve.Option{serve.WithMachines(m.machines)}
}

// machines returns the machines for the status of the service.
func (m *member) machines(ctx context.Context) []serve.Machine {
	all := m.roster.Machines(ctx)
	machines := make([]serve.Machine, len(all))
	for i := range all {
		of := &all[i]
		machines[i] = serve.Machine{
			ID: of.ID, Name: of.Name, Version: of.Version, Protocol: of.Newest, Labels: of.Labels, Leaving: of.Leaving, Usable: of.Usable,
			Pipelines: []serve.MachinePipeline{},
		}
		for _, p := range of.Pipelines {
			machines[i].Pipelines = append(machines[i].Pipelines, serve.MachinePipeline(p))
		}
	}
	return machines
}
