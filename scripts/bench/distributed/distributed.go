// Package distributed measures calls and jobs that go over NATS, for the section cluster of the
// benchmark. Each NATS server, machine and responder is a process of its own, and the caller is
// the benchmark itself.
package distributed

import (
	"context"
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/runner/cluster"
)

// Host starts the processes, in the order and with the interpreter of the benchmark.
type Host interface {
	// Self starts this program with arguments that begin with [Role], and Python a program in the
	// folder python, in the environment that a file of requirements names.
	Self(ctx context.Context, args ...string) (Process, error)
	Python(ctx context.Context, name, requirements string, args ...string) (Process, error)
	// Interpreter is the path of the interpreter, Programs the folder python, and Folder returns a
	// new folder on the disk.
	Interpreter() string
	Programs() string
	Folder() (string, error)
	// Queues are the peers of the jobs to measure.
	Queues() []Queue
	// Skip notes that something cannot be measured.
	Skip(what string, reason error)
}

// Process is a process that answers lines of JSON with lines of JSON.
type Process interface {
	Request(request, answer any) error
	Close() error
}

// Table is a table of the report. Its tasks take turns.
type Table struct {
	Title string
	// Rate makes the figures the units per second. Otherwise they are the time of one unit.
	Rate  bool
	Tasks []Task
}

// Task does a number of units of work and returns how long that took.
type Task struct {
	Name  string
	Units float64
	Run   func() (time.Duration, error)
}

// Part sets up what some tables need. The caller runs the tasks, and calls closing after that.
type Part struct {
	Name  string
	SetUp func(ctx context.Context, h Host, calls int) (tables []Table, closing func() error, err error)
}

// Parts are all parts, in the order of the report.
var Parts = []Part{
	{"calls", setUpCalls},
	{"values", setUpValues},
	{"jobs", setUpJobs},
	{"growth", setUpGrowth},
}

// stack closes what was opened, the last first.
type stack []func() error

func (s *stack) add(closing func() error) { *s = append(*s, closing) }

func (s *stack) addVoid(closing func()) { s.add(func() error { closing(); return nil }) }

func (s *stack) close() (err error) {
	for i := len(*s) - 1; i >= 0; i-- {
		err = errors.Join(err, (*s)[i]())
	}
	*s = nil
	return err
}

// fleet is a NATS server with what is connected to it.
type fleet struct {
	stack
	host Host
	url  string
}

// startFleet starts a NATS server.
func startFleet(ctx context.Context, h Host, syncs bool) (*fleet, error) {
	f := &fleet{host: h}
	folder, err := h.Folder()
	if err != nil {
		return nil, err
	}
	var ready serverReady
	if err := f.start(ctx, &ready, roleServer, serverSettings{Folder: folder, Syncs: syncs}); err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.url = ready.URL
	return f, nil
}

// start starts a process of this program in a role, and waits until it is ready.
func (f *fleet) start(ctx context.Context, ready any, role string, settings any) error {
	p, err := f.host.Self(ctx, Role, role)
	if err != nil {
		return err
	}
	f.add(p.Close)
	return p.Request(settings, ready)
}

// machine starts a machine.
func (f *fleet) machine(ctx context.Context, s machineSettings) error {
	s.URL, s.Python, s.Programs = f.url, f.host.Interpreter(), f.host.Programs()
	return f.start(ctx, &struct{}{}, roleMachine, s)
}

// connect connects this process.
func (f *fleet) connect(ctx context.Context) (*cluster.Conn, error) {
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: []string{f.url}})
	if err == nil {
		f.addVoid(conn.Close)
	}
	return conn, err
}

// dial returns a client of a pipeline, with a connection of its own.
func (f *fleet) dial(ctx context.Context, pipeline string) (*cluster.Client, error) {
	conn, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	c, err := cluster.Dial(ctx, conn, pipeline)
	if err == nil {
		f.addVoid(c.Close)
	}
	return c, err
}
