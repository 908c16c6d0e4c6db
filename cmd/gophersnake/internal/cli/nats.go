package cli

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// natsFlags are the flags of commands that connect to NATS.
type natsFlags struct {
	urls                      []string
	credentials, nkey         string
	caFile, certFile, keyFile string
	inboxPrefix               string
}

const natsHelp = `--nats takes the URLs of NATS servers, separated by commas: nats://HOST:PORT, or tls://HOST:PORT
for TLS from the client's side. A user and a password, or a token, may be in the URL; but
other users of this machine see the command line, so that a file is better: one of
credentials (--nats-creds), of an nkey seed (--nats-nkey), or of a certificate (--nats-cert and
--nats-key). --nats FOLDER uses the server that another process of this user has started in the
state folder FOLDER.`

func (n *natsFlags) add(c *cobra.Command, what string) {
	f := c.Flags()
	f.StringSliceVar(&n.urls, "nats", nil, what+"; `URL` of a NATS server, or several")
	f.StringVar(&n.credentials, "nats-creds", "", "a `FILE` with NATS credentials: a user's JWT and nkey seed")
	f.StringVar(&n.nkey, "nats-nkey", "", "a `FILE` with the seed of an nkey")
	f.StringVar(&n.caFile, "nats-ca", "", "a `FILE` with the authorities that sign the certificates of the NATS servers")
	f.StringVar(&n.certFile, "nats-cert", "", "a `FILE` with a certificate for the NATS servers")
	f.StringVar(&n.keyFile, "nats-key", "", "a `FILE` with the key of that certificate")
	f.StringVar(&n.inboxPrefix, "nats-inbox", "", "the `PREFIX` of the subjects of answers, if the NATS user may only subscribe to one of its own")
}

// check returns an error if flags do not fit each other.
func (n *natsFlags) check() error {
	isSet := n.credentials+n.nkey+n.caFile+n.certFile+n.keyFile+n.inboxPrefix != ""
	switch {
	case isSet && len(n.urls) == 0:
		return failure.Usagef("the flags --nats-… say how to connect to NATS servers; name them with --nats URL")
	case n.credentials != "" && n.nkey != "":
		return failure.Usagef("--nats-creds and --nats-nkey exclude each other: a file of credentials has an nkey seed, too")
	case (n.certFile == "") != (n.keyFile == ""):
		return failure.Usagef("--nats-cert and --nats-key need each other")
	}
	return nil
}

// config returns how to connect. The name is that of the connection in the servers' reports.
func (a *app) natsConfig(n *natsFlags, name string) (cluster.Config, error) {
	c := cluster.Config{
		Credentials: n.credentials, NKeySeed: n.nkey, CAFile: n.caFile, CertFile: n.certFile, KeyFile: n.keyFile,
		InboxPrefix: n.inboxPrefix, Name: name, Logger: slog.New(hclogHandler{a.logger}),
	}
	for _, text := range n.urls {
		if info, err := os.Stat(text); err == nil && info.IsDir() {
			found, err := cluster.LocalURL(text)
			if err != nil {
				return c, err
			}
			text = found
		}
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" {
			return c, failure.Usagef("--nats takes URLs such as nats://host:4222, or the state folder of a server")
		}
		c.URLs = append(c.URLs, text)
	}
	return c, nil
}

// connectNATS connects to the servers of the flags.
func (a *app) connectNATS(ctx context.Context, n *natsFlags, name string) (*cluster.Conn, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	c, err := a.natsConfig(n, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	return cluster.Connect(ctx, c)
}

// natsTimeout bounds the time in which a server must answer.
const natsTimeout = 10 * time.Second

// hclogHandler writes the records of package slog to the command's log.
type hclogHandler struct{ logger hclog.Logger }

// Enabled implements [slog.Handler].
func (h hclogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return hclogLevel(level) >= h.logger.GetLevel()
}

// Handle implements [slog.Handler].
func (h hclogHandler) Handle(_ context.Context, r slog.Record) error {
	args := make([]any, 0, 2*r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		args = append(args, a.Key, runner.PrintableLine(a.Value.String()))
		return true
	})
	h.logger.Log(hclogLevel(r.Level), runner.PrintableLine(r.Message), args...)
	return nil
}

// WithAttrs implements [slog.Handler].
func (h hclogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	args := make([]any, 0, 2*len(attrs))
	for _, a := range attrs {
		args = append(args, a.Key, a.Value.String())
	}
	return hclogHandler{h.logger.With(args...)}
}

// WithGroup implements [slog.Handler]. The log has no groups.
func (h hclogHandler) WithGroup(string) slog.Handler { return h }

func hclogLevel(level slog.Level) hclog.Level {
	switch {
	case level < slog.LevelDebug:
		return hclog.Trace
	case level < slog.LevelInfo:
		return hclog.Debug
	case level < slog.LevelWarn:
		return hclog.Info
	case level < slog.LevelError:
		return hclog.Warn
	}
	return hclog.Error
}

// memberFlags are the flags of serve about other machines.
type memberFlags struct {
	nats   natsFlags
	name   string
	labels []string
}

func (m *memberFlags) add(c *cobra.Command) {
	m.nats.add(c, "serve the pipelines to other machines, too, over NATS")
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
}

// join connects to the servers of the flags. Without any, it returns nil.
func (a *app) join(ctx context.Context, flags *memberFlags) (*member, error) {
	if err := flags.nats.check(); err != nil {
		return nil, err
	}
	if len(flags.nats.urls) == 0 {
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
	opts := []cluster.MachineOption{cluster.WithLabels(labels), cluster.WithVersion(readVersion().Version)}
	if flags.name != "" {
		opts = append(opts, cluster.WithName(flags.name))
	}
	conn, err := a.connectNATS(ctx, &flags.nats, "gophersnake serve "+flags.name)
	if err != nil {
		return nil, err
	}
	return &member{conn: conn, options: opts, roster: cluster.NewRoster(conn)}, nil
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

// close closes the connection.
func (m *member) close() {
	if m != nil {
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
