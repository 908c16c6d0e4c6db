package distributed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Role is the subcommand of the processes that the benchmark starts.
const Role = "role"

// The roles.
const (
	roleServer    = "server"
	roleMachine   = "machine"
	roleResponder = "responder"
)

// roles are what processes do, with their settings, until the context ends. They call ready when
// they can be used.
var roles = map[string]func(ctx context.Context, settings []byte, ready func(any) error) error{
	roleServer: playServer, roleMachine: playMachine, roleResponder: playResponder,
}

type serverSettings struct {
	Folder string
	Syncs  bool // after each write; otherwise as often as the server's default says
}

type serverReady struct{ URL string }

type machineSettings struct {
	URL, Python, Programs string
	// Pipelines are files in the folder of the programs; "go" is a pipeline of a node in Go.
	Pipelines []string
	Jobs      bool // serve jobs, in place of calls
	Both      bool // serve both
}

type responderSettings struct{ URL string }

// Play runs a process of the benchmark in a role: its settings are the first line of in, it
// writes a line when it is ready, and ends at the end of in.
func Play(ctx context.Context, role string, in io.Reader, out io.Writer) error {
	play := roles[role]
	if play == nil {
		return fmt.Errorf("there is no role %q", role)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		cancel()
	}()
	return play(ctx, line, func(v any) error { return json.NewEncoder(out).Encode(v) })
}

func playServer(ctx context.Context, line []byte, ready func(any) error) error {
	var s serverSettings
	if err := json.Unmarshal(line, &s); err != nil {
		return err
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: s.Folder, SyncAlways: s.Syncs,
	})
	if err != nil {
		return err
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(time.Minute) {
		return errors.New("the NATS server does not start")
	}
	if err := ready(serverReady{srv.ClientURL()}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// playResponder answers requests as "nats bench service serve" does.
func playResponder(ctx context.Context, line []byte, ready func(any) error) error {
	var s responderSettings
	if err := json.Unmarshal(line, &s); err != nil {
		return err
	}
	conn, err := nats.Connect(s.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = micro.AddService(conn, micro.Config{Name: "bare", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: bareSubject, Handler: micro.HandlerFunc(func(req micro.Request) { _ = req.Respond(req.Data()) }),
	}})
	if err == nil {
		err = conn.Flush()
	}
	if err == nil {
		err = ready(struct{}{})
	}
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// bareSubject is the subject of the responder.
const bareSubject = "bare.echo"

// goName is the pipeline of a node in Go.
const goName = "go"

func playMachine(ctx context.Context, line []byte, ready func(any) error) (err error) {
	var s machineSettings
	if err := json.Unmarshal(line, &s); err != nil {
		return err
	}
	var open stack
	defer func() { err = errors.Join(err, open.close()) }()
	runners := make(map[string]*runner.Runner)
	for _, name := range s.Pipelines {
		if runners[name], err = s.runner(name); err != nil {
			return err
		}
		open.add(func() error { return runners[name].Close(context.Background()) })
	}
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: []string{s.URL}})
	if err != nil {
		return err
	}
	open.addVoid(conn.Close)
	if !s.Jobs || s.Both {
		m, err := cluster.Announce(ctx, conn, runners)
		if err != nil {
			return err
		}
		open.addVoid(m.Close)
	}
	if s.Jobs || s.Both {
		store, err := jobs.Open(ctx, conn, jobs.Config{})
		if err != nil {
			return err
		}
		srv, err := jobs.Start(ctx, store, runners)
		if err != nil {
			return err
		}
		open.addVoid(srv.Close)
	}
	if err := ready(struct{}{}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (s *machineSettings) runner(name string) (*runner.Runner, error) {
	if name == goName {
		p, err := manifest.Parse("go.yaml", []byte("version: v1\nnodes: [{id: echo, node_type: echo}]\n"), s.Programs)
		if err != nil {
			return nil, err
		}
		return runner.New(p, runner.WithNode("echo", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }))
	}
	p, err := runner.Load(filepath.Join(s.Programs, name+".yaml"))
	if err != nil {
		return nil, err
	}
	return runner.New(p, runner.WithPython(s.Python))
}
