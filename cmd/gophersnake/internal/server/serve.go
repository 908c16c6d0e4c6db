// Package server is the command serve: the servers of HTTP, gRPC, the cluster and the jobs.
package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/service"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip"
	"github.com/gophersnake/gophersnake/runner/serve/oip/oipgrpc"
	"github.com/gophersnake/gophersnake/runner/serve/tables"
	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// app has the command as methods.
type app struct{ *program.App }

type serveFlags struct {
	config    serve.Config
	grpc      string
	tokenFile string
	rate      requestRate
	hosts     []string
	maxBody   size
	maxMemory size
	queue     int
	debug     bool
	admin     bool
	watch     bool
	telemetry program.TelemetryFlags
	member    memberFlags
	jobs      servedJobs
}

const serveHelp = `Answer HTTP requests with pipelines. When all workers are ready, the command prints one
line on standard output: "ready: " and the URL. Before that, /readyz says what is missing.

  POST /v1/pipelines/NAME           the body is the input: JSON, text, a recording, an
                                    image, a table, an array or bytes, by Content-Type
  POST /v1/pipelines/NAME/nodes/ID  call one node
  GET  /v1/pipelines/NAME/stream    a WebSocket, for live audio as well
  GET  /v1/pipelines, /v1/pipelines/NAME, /openapi.json; /docs is a page for browsers
  GET  /livez, /readyz, /healthz, /metrics
  GET  /v1/jobs/NAME/ID             with --jobs: the jobs of POSTs with Prefer: respond-async
  GET  /, /v1/status                how all of it is, live: a page, and what it shows

The answer is JSON. Accept asks for something else: audio/wav, image/png, text/csv,
application/x-npy, application/octet-stream, or the stream of all values as they are
returned, text/event-stream or application/x-ndjson. A body of type application/x-ndjson is
a stream of inputs. Errors are problem documents, as in RFC 9457.

Clients of KServe and Triton call the pipelines as models, by the Open Inference Protocol:
over REST below /v2, and over gRPC with --grpc-listen. The URL of the latter is then in the
line, too.

A pipeline is served under the name in its manifest, or that of its file; NAME=PIPELINE
gives it another one. Requests from other machines need --listen with an address that they
reach, and a token. A token file has one token in each line, which attributes may follow:

  SECRET [name=NAME] [admin] [weight=N] [rate=N/s] [burst=N] [priority=high|normal|low]

SIGHUP reloads the Python code of the nodes, and the token file. SIGTERM and Ctrl-C end the
command: it is no longer ready, refuses further calls, finishes those under way within
--drain-timeout, and exits with 0. A second signal ends it at once.

With --nats, other machines can call the pipelines, too: by gophersnake call, package cluster of
Go, or a node's host. A machine that ends leaves the others first, and finishes its calls.

With --jobs, the command also runs the jobs that gophersnake submit queues. They are kept in
the state folder, or by the servers of --nats, and outlive the command. With --webhook-secret, a
job may have a webhook.

` + program.NATSHelp + "\n\n" + program.TelemetryHelp

// New returns the command.
func New(shared *program.App) *cobra.Command {
	a := &app{shared}
	flags := serveFlags{maxBody: serve.DefaultMaxBody}
	c := &cobra.Command{
		Use:   "serve PIPELINE...",
		Short: "Answer HTTP requests with pipelines",
		Long:  serveHelp,
		Example: `  gophersnake serve speech
  curl --data-binary @talk.wav http://127.0.0.1:8000/v1/pipelines/speech
  gophersnake serve ./shop hello=./greeting --listen 127.0.0.1:9000
  gophersnake serve ./shop --grpc-listen 127.0.0.1:8001
  gophersnake serve ./shop --jobs
  openssl rand -hex 32 > tokens && gophersnake serve ./shop --listen :8000 --token-file tokens
  gophersnake serve ./shop --listen :8443 --token-file tokens --tls-cert cert.pem --tls-key key.pem
  gophersnake serve ./shop --nats tls://a:4222,tls://b:4222 --nats-creds machine.creds --label gpu`,
		Args: program.ArgumentCount(1, -1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error { return a.servePipelines(c.Context(), args, flags) },
	}
	f := c.Flags()
	f.StringVar(&flags.config.Address, "listen", "127.0.0.1:8000", "the `ADDR` to listen at, HOST:PORT; port 0 is any free one")
	f.StringVar(&flags.grpc, "grpc-listen", "", "also answer gRPC (Open Inference Protocol) at `ADDR`, HOST:PORT")
	f.StringVar(&flags.tokenFile, "token-file", "", "a `FILE` of tokens, one of which each request needs")
	f.Var(&flags.rate, "rate", "the calls that each token without a rate, or each client address, may make, a `RATE` such as 10/s or 90/m")
	f.StringVar(&flags.config.CertFile, "tls-cert", "", "a `FILE` with the certificate, for HTTPS")
	f.StringVar(&flags.config.KeyFile, "tls-key", "", "a `FILE` with the key of the certificate")
	f.BoolVar(&flags.config.Insecure, "insecure", false, "let other machines use the pipelines without a token")
	f.StringArrayVar(&flags.hosts, "host", nil, "on a loopback address, also answer requests for this host `NAME`, such as that of a proxy; can be repeated")
	flags.config.DrainTimeout = 30 * time.Second
	f.Var((*program.TimeSpan)(&flags.config.DrainTimeout), "drain-timeout", "how long calls under way may take at the end, a `time`")
	f.Var(&flags.maxBody, "max-body", "largest `size` of a request's body: 64MiB, 500kB or a number of bytes")
	f.Var(&flags.maxMemory, "max-memory", "largest `size` of all bodies and answers at a time; the default is 1GiB, or a quarter of what the cgroup has")
	f.IntVar(&flags.queue, "queue", serve.DefaultQueue, "the `number` of requests that wait for a busy pipeline")
	f.BoolVar(&flags.debug, "debug", false, "answer errors with tracebacks and paths of this machine")
	f.BoolVar(&flags.admin, "admin", false, "let clients of this machine reload pipelines and restart nodes, if they need no token")
	f.BoolVar(&flags.watch, "watch", false, "reload the nodes' Python code whenever it changes")
	flags.member.add(c)
	flags.telemetry.Add(c)
	flags.jobs.add(c)
	return c
}

// servedPipeline is a pipeline of the command serve.
type servedPipeline struct {
	name     string
	pipeline *manifest.Pipeline
	runner   *runner.Runner
	display  *terminal.Display
	reloader *service.Reloader
}

// runnersOf returns the runners of pipelines, by the names of these.
func runnersOf(pipelines []*servedPipeline) map[string]*runner.Runner {
	runners := make(map[string]*runner.Runner, len(pipelines))
	for _, p := range pipelines {
		runners[p.name] = p.runner
	}
	return runners
}

// reserveSize is the size of a heap that is never used. The collector of Go begins when the heap has
// doubled. Without the reserve, that of an idle service is so small that it would begin after some
// hundred requests, and on a machine with few processors each time delays the requests of that
// time. The reserve is not written and takes no memory, but garbage may become as large.
const reserveSize = 32 << 20

// servePipelines is the command serve without the parsing of flags.
func (a *app) servePipelines(ctx context.Context, args []string, flags serveFlags) (err error) {
	reserve := make([]byte, reserveSize)
	defer runtime.KeepAlive(reserve)
	pipelines, err := a.loadServed(args)
	if err != nil {
		return err
	}
	if flags.queue < 1 {
		return failure.Usagef("--queue takes a number from 1")
	}
	if flags.tokenFile != "" {
		if flags.config.Tokens, err = serve.ReadTokens(flags.tokenFile); err != nil {
			return err
		}
	}
	member, err := a.join(ctx, &flags.member)
	if err != nil {
		return err
	}
	defer member.close()
	flags.jobs.grace = flags.config.DrainTimeout
	defer flags.jobs.close()
	if err := flags.jobs.open(ctx, a, member); err != nil {
		return err
	}
	telemetry, err := a.StartTelemetry(ctx, flags.telemetry)
	if err != nil {
		return err
	}
	defer func() { telemetry.Stop(flags.config.DrainTimeout) }()
	if telemetry.Provider == nil { // nodes still get the traces of their clients
		telemetry.Provider = noop.NewTracerProvider()
	}
	measures := newMetrics()
	flags.jobs.addMetrics(measures)
	defer func() {
		for _, p := range pipelines {
			if p.runner != nil {
				err = errors.Join(err, program.CloseRunner(ctx, p.runner))
			}
		}
	}()
	monitor := serve.NewMonitor()
	for _, p := range pipelines {
		p.display = terminal.NewLogDisplay(a.Console, a.Logger)
		watched := append(monitor.Options(p.name, telemetry.Logger), member.runnerOptions(p.name)...)
		p.runner, err = runner.New(p.pipeline, a.Options(append(watched, runner.WithEvents(p.display.Event),
			runner.WithBuildProgress(p.display.BuildProgress), runner.WithOrderedMaps(), measures.Option(p.name),
			runner.WithTracerProvider(telemetry.Provider))...)...)
		if err != nil {
			return err
		}
	}
	flags.config.ErrorLog = a.httpLog()
	server, err := serve.Listen(runnersOf(pipelines), flags.config, slices.Concat(flags.options(), member.serveOptions(measures), flags.jobs.serveOptions(),
		[]serve.Option{serve.WithMonitor(monitor), serve.WithFailures(a.logRequest), serve.WithTracerProvider(telemetry.Provider), serve.WithMetrics(measures)})...)
	if err != nil {
		return err
	}
	rpc, err := a.listenGRPC(server, flags)
	if err != nil {
		return err
	}
	return a.serveUntilEnd(ctx, &servers{server, rpc, member, flags.config.DrainTimeout}, pipelines, &flags)
}

// listenGRPC opens the server for gRPC, nil if none is asked for.
func (a *app) listenGRPC(server *serve.Server, flags serveFlags) (*oipgrpc.Server, error) {
	if flags.grpc == "" {
		return nil, nil
	}
	return oipgrpc.Listen(server, oipgrpc.Config{Address: flags.grpc, Reflection: flags.debug, ErrorLog: a.httpLog()})
}

// servers are the doors of the command serve: HTTP, gRPC if it is asked for, and NATS.
type servers struct {
	http   *serve.Server
	rpc    *oipgrpc.Server // nil without --grpc-listen
	member *member         // nil without --nats
	grace  time.Duration
}

// run answers requests until the context ends, and the servers have drained, or one of them
// fails. Then it stops the other ones.
func (s *servers) run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return s.http.Run(ctx) })
	if s.rpc != nil {
		running.Go(func() error { return s.rpc.Run(ctx) })
	}
	return running.Wait()
}

// urls returns the URLs of the servers.
func (s *servers) urls() string {
	urls := s.http.URL()
	if s.rpc != nil {
		urls += " grpc://" + s.rpc.Address()
	}
	return urls
}

// reloadTokens reads the tokens of a server again. If the file cannot be read, the old tokens stay
// valid.
func (a *app) reloadTokens(server *serve.Server, file string) {
	tokens, err := serve.ReadTokens(file)
	if err == nil {
		err = server.SetTokens(tokens)
	}
	if err != nil {
		a.Logger.Warn("the tokens were not reloaded; the old ones stay valid")
		a.ReportError("", err)
		return
	}
	a.Logger.Info("the tokens were reloaded", "tokens", len(tokens))
}

// hangup is what the command does after SIGHUP.
func (a *app) hangup(server *serve.Server, pipelines []*servedPipeline, tokenFile string) {
	if tokenFile != "" {
		a.reloadTokens(server, tokenFile)
	}
	for _, p := range pipelines {
		p.reloader.Request("SIGHUP")
	}
}

// newMetrics returns metrics that include those of this process.
func newMetrics() *metrics.Metrics {
	m := metrics.New()
	m.Register(collectors.NewGoCollector())
	m.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// httpLog returns a log for package net/http, whose messages are about connections.
func (a *app) httpLog() *log.Logger {
	return a.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug})
}

// logRequest logs a failed request: as a warning unless it is the client's fault.
func (a *app) logRequest(f serve.Failure) {
	log := a.Logger.Debug
	if f.Status >= http.StatusInternalServerError {
		log = a.Logger.Warn
	}
	log("a request failed", "status", f.Status, "path", f.Path, "id", f.RequestID, "token", f.Token, "error", runner.PrintableLine(f.Err.Error()))
}

func (f *serveFlags) options() []serve.Option {
	opts := []serve.Option{
		serve.WithPage(), serve.WithMaxBody(int64(f.maxBody)), serve.WithRate(float64(f.rate), 0), serve.WithQueue(f.queue),
		serve.WithFormats(tables.Formats()...), serve.WithProtocol(oip.Protocol()),
	}
	if len(f.hosts) > 0 {
		opts = append(opts, serve.WithHosts(f.hosts...))
	}
	if f.maxMemory > 0 {
		opts = append(opts, serve.WithMemory(int64(f.maxMemory)))
	}
	if f.debug {
		opts = append(opts, serve.WithDebug())
	}
	if f.admin {
		opts = append(opts, serve.WithAdmin())
	}
	return opts
}

// serveUntilEnd answers requests, starts the pipelines, and reloads their code on request,
// until the context ends or a pipeline cannot be started.
func (a *app) serveUntilEnd(ctx context.Context, s *servers, pipelines []*servedPipeline, flags *serveFlags) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	for _, p := range pipelines {
		var err error
		work, p.reloader, err = service.NewReloader(work, p.pipeline, service.ReloaderOptions{
			Watch: flags.watch, Logger: a.Logger, Report: func(err error) { a.ReportError("", err) },
		})
		if err != nil {
			return err
		}
		defer p.reloader.Close()
	}
	work, stopHangups := service.OnHangup(work, a.OnTerminal, func() { a.hangup(s.http, pipelines, flags.tokenFile) })
	defer stopHangups()
	ended := make(chan error, 1)
	go func() {
		ended <- s.run(work)
		stop() // also if the server has failed
	}()
	err := startServed(work, pipelines)
	if err == nil {
		err = s.member.announce(work, pipelines)
	}
	if err == nil {
		err = flags.jobs.start(work, a, s.http, pipelines)
	}
	if err == nil {
		_, _ = fmt.Fprintln(a.Out, "ready: "+s.urls())
		<-work.Done()
		if _, ok := failure.Interruption(work); ok {
			a.Logger.Info("finishing the calls under way; a second signal ends the command at once")
		}
	}
	isStopped := ctx.Err() != nil
	if closed, ok := failure.Interruption(work); ok && !isStopped { // of the terminal
		err = closed
	}
	stop()
	s.member.leave(s.grace) // while the others finish their calls, too
	defer flags.jobs.wait()
	if failed := <-ended; failed != nil || isStopped {
		return failed
	}
	return err
}

// startServed starts all pipelines at once.
func startServed(ctx context.Context, pipelines []*servedPipeline) error {
	var starts errgroup.Group
	for _, p := range pipelines {
		starts.Go(func() error {
			if err := p.reloader.Start(ctx, p.runner); err != nil {
				return err
			}
			p.display.BuildFinished()
			return nil
		})
	}
	return starts.Wait()
}

// servedName matches names that need no escapes in a URL.
var servedName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// loadServed loads the pipelines of the arguments, each PIPELINE or NAME=PIPELINE.
func (a *app) loadServed(args []string) ([]*servedPipeline, error) {
	var all []*servedPipeline
	taken := make(map[string]bool)
	for _, argument := range args {
		name, path, isNamed := strings.Cut(argument, "=")
		if !isNamed || !servedName.MatchString(name) {
			name, path = "", argument
		}
		p, err := a.Load(path)
		if err != nil {
			return nil, err
		}
		if name == "" {
			name = program.NameOf(p)
		}
		if !servedName.MatchString(name) {
			return nil, failure.Usagef("%q cannot be a part of a URL; give the pipeline another name: NAME=%s", name, path)
		}
		if taken[name] {
			return nil, failure.Usagef("two pipelines have the name %s; give one of them another name: NAME=%s", name, path)
		}
		taken[name] = true
		all = append(all, &servedPipeline{name: name, pipeline: p})
	}
	return all, nil
}
