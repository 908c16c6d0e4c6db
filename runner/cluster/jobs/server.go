package jobs

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/capacity"
)

// ServerOption configures a [Server].
type ServerOption func(*serverOptions)

type serverOptions struct {
	name  string
	slots map[string]int
	grace time.Duration

	webhooks *Webhooks // nil without

	// clock and scheduleTick are those of schedules.
	clock        func() time.Time
	scheduleTick time.Duration
}

// WithName names the machine in records. The default is the name of the host.
func WithName(name string) ServerOption { return func(o *serverOptions) { o.name = name } }

// WithSlots sets how many jobs of a pipeline run here at once. The default is as many as are
// sure to find a free worker of each node.
func WithSlots(pipeline string, n int) ServerOption {
	return func(o *serverOptions) { o.slots[pipeline] = n }
}

// WithDrainTimeout limits how long [Serve] waits for jobs that run when it ends. The default is
// 30 s.
func WithDrainTimeout(d time.Duration) ServerOption { return func(o *serverOptions) { o.grace = d } }

// Server takes jobs for the pipelines of this process. Its methods are safe for concurrent use.
type Server struct {
	serverOptions
	store   *Store
	id      string
	pullers []*puller
	subs    []*nats.Subscription

	// taking ends when the server takes no more jobs, living when it is closed.
	taking, living         context.Context
	stopTaking, stopLiving context.CancelFunc
	// delivering ends when documents that are being posted are left to another machine.
	delivering       context.Context
	stopDelivering   context.CancelFunc
	pulling          sync.WaitGroup // the pullers
	handling         sync.WaitGroup // the jobs
	closing          sync.Once
	known            depths
	schedulesChanged chan struct{} // holds one signal

	mu      sync.Mutex
	running map[string]*run // by key
}

// errLeaving cancels the runs of a server that is closed.
var errLeaving = errors.New("the machine was stopped during the job")

// Start starts the runners that are not started, creates the queues of their pipelines, which
// are the keys of the map, and takes jobs until [Server.Drain] or [Server.Close]. It blocks
// while workers start. Its error is that of a runner, or of kind io.
func Start(ctx context.Context, store *Store, runners map[string]*runner.Runner, opts ...ServerOption) (*Server, error) {
	host, _ := os.Hostname()
	s := &Server{
		serverOptions: serverOptions{name: cmp.Or(host, "unknown"), slots: make(map[string]int), grace: 30 * time.Second, clock: time.Now, scheduleTick: scheduleTick},
		store:         store, id: nuid.Next(), running: make(map[string]*run), schedulesChanged: make(chan struct{}, 1),
	}
	for _, opt := range opts {
		opt(&s.serverOptions)
	}
	s.taking, s.stopTaking = context.WithCancel(context.WithoutCancel(ctx))
	s.living, s.stopLiving = context.WithCancel(context.WithoutCancel(ctx))
	s.delivering, s.stopDelivering = context.WithCancel(s.living)
	err := s.subscribe(subjectOfOwner(s.id), s.asked)
	for _, pipeline := range slices.Sorted(maps.Keys(runners)) {
		if err == nil {
			err = s.addPuller(ctx, pipeline, runners[pipeline])
		}
	}
	if err == nil {
		err = s.deliverWebhooks(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	for _, p := range s.pullers {
		s.pulling.Go(p.run)
	}
	s.pulling.Go(s.sweep)
	s.pulling.Go(s.runSchedules)
	return s, nil
}

// sweepInterval is how often a server deletes large inputs without a job.
const sweepInterval = 15 * time.Minute

// sweep deletes large inputs without a job now and then, until the server takes no more jobs.
func (s *Server) sweep() {
	for {
		if err := s.store.sweep(s.taking, sweepAge); err != nil && s.taking.Err() == nil {
			s.store.logger.Warn("cannot look for inputs without a job", "error", err)
		}
		select {
		case <-s.taking.Done():
			return
		case <-time.After(sweepInterval):
		}
	}
}

// Serve takes jobs as [Start] does until the context ends. Then it takes no more, and returns nil
// when those that run have ended or the drain timeout has passed; see [Server.Close].
func Serve(ctx context.Context, store *Store, runners map[string]*runner.Runner, opts ...ServerOption) error {
	s, err := Start(ctx, store, runners, opts...)
	if err != nil {
		return err
	}
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	_ = s.Drain(grace) // Close deals with the jobs that are left
	s.Close()
	return nil
}

func (s *Server) subscribe(subject string, handler nats.MsgHandler) error {
	sub, err := s.store.nc.Subscribe(subject, handler)
	if err != nil {
		return storeError(s.living, err, "serve jobs")
	}
	s.subs = append(s.subs, sub)
	return nil
}

func (s *Server) addPuller(ctx context.Context, pipeline string, r *runner.Runner) error {
	all, err := capacity.Describe(ctx, r)
	if err != nil {
		return err
	}
	p := &puller{
		server: s, pipeline: pipeline, runner: r, nodes: all, idempotent: true, slots: newSlots(max(cmp.Or(s.slots[pipeline], capacity.Of(r, all)), 0)),
		isHot: make([]bool, len(priorities)), wake: make(chan struct{}, 1),
	}
	for i := range r.Pipeline().Nodes {
		p.idempotent = p.idempotent && r.Pipeline().Nodes[i].Idempotent
	}
	err = s.whileElecting(ctx, func(ctx context.Context) (err error) {
		p.consumers, err = s.store.openQueue(ctx, pipeline)
		return err
	})
	if err != nil {
		return storeError(ctx, err, "open the queue of "+pipeline)
	}
	s.pullers = append(s.pullers, p)
	return s.subscribe(subjectOfWake(pipeline), func(msg *nats.Msg) {
		if string(msg.Data) == wakeSchedules {
			signal(s.schedulesChanged)
			return
		}
		p.awaken(Priority(msg.Data))
	})
}

// whileElecting opens something, and tries again while the servers elect a leader.
func (s *Server) whileElecting(ctx context.Context, open func(context.Context) error) error {
	ctx, cancel := bounded(ctx, submitPatience)
	defer cancel()
	return s.store.persevere(ctx, func() error { return open(ctx) })
}

// asked answers a question about a job.
func (s *Server) asked(msg *nats.Msg) {
	if key, ok := strings.CutPrefix(string(msg.Data), askHas); ok {
		answer := "no"
		if s.find(key) != nil {
			answer = answerYes
		}
		_ = msg.Respond([]byte(answer))
	}
	if key, ok := strings.CutPrefix(string(msg.Data), askCancel); ok {
		if r := s.find(key); r != nil {
			r.cancel(errFenced)
		}
	}
}

func (s *Server) find(key string) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[key]
}

// enter registers a run before its record says that it runs. It returns false if this server
// has the job already.
func (s *Server) enter(r *run) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[r.ref.key()] != nil {
		return false
	}
	s.running[r.ref.key()] = r
	return true
}

func (s *Server) leave(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, r.ref.key())
}

// Drain makes the server take no more jobs, and waits until those that run have ended. If the
// context ends first, Drain returns its error.
func (s *Server) Drain(ctx context.Context) error {
	s.stopTaking()
	done := make(chan struct{})
	go func() {
		s.pulling.Wait()
		s.handling.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// closePatience is how long Close waits for jobs that it has canceled, and for servers that do not
// answer. A job whose state it cannot store goes to another machine, as if this one had died.
const closePatience = 10 * time.Second

// Close drains the server without waiting: jobs that run are canceled and given back to the
// queue, or fail if they must not be begun again. It blocks until that is stored, and not much longer
// than 10 s if the NATS servers do not answer. The runners stay open. It may be called several times.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.stopTaking()
		s.stopDelivering()
		s.pulling.Wait()
		s.mu.Lock()
		for _, r := range s.running {
			r.cancel(errLeaving)
		}
		s.mu.Unlock()
		patience := time.AfterFunc(closePatience, s.stopLiving)
		s.handling.Wait()
		patience.Stop()
		s.stopLiving()
		for _, sub := range s.subs {
			_ = sub.Unsubscribe()
		}
	})
}

// puller takes the jobs of one pipeline, as its slots allow, so that none waits here while another
// machine could run it.
type puller struct {
	server     *Server
	pipeline   string
	runner     *runner.Runner
	nodes      []ipc.Description
	idempotent bool
	slots      *slots
	consumers  []jetstream.Consumer // by priority
	wake       chan struct{}        // a job was queued, or a slot is free
	counts     counts

	mu sync.Mutex
	// isHot says of each priority that jobs may be queued.
	isHot []bool
	// rest is until when the pipeline cannot run jobs here.
	rest time.Time
}

const (
	// recheck is how often a puller looks for jobs that it was not woken for: those of dead
	// machines and submitters.
	recheck = time.Second
	// firstRecheck is after which time it looks again if it was woken and found nothing, because
	// another server leads the consumer; it doubles up to recheck.
	firstRecheck = 10 * time.Millisecond
)

// awaken notes that a job of a priority was queued.
func (p *puller) awaken(priority Priority) {
	p.mu.Lock()
	if i := slices.Index(priorities, priority); i >= 0 {
		p.isHot[i] = true
	}
	p.mu.Unlock()
	p.signal()
}

func (p *puller) signal() { signal(p.wake) }

// signal makes a receiver of a channel that holds one signal look again.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// run takes jobs until the server takes no more.
func (p *puller) run() {
	taking := p.server.taking
	pause, checked := firstRecheck, time.Time{}
	for taking.Err() == nil {
		if time.Since(checked) >= recheck {
			p.heat()
			checked = time.Now()
		}
		if p.pull() > 0 {
			pause = firstRecheck
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-taking.Done():
		case <-p.wake:
			pause = firstRecheck
		case <-timer.C:
			p.heat()
			checked = time.Now()
			pause = min(2*pause, recheck)
		}
		timer.Stop()
	}
}

// heat makes the next pull look at all priorities.
func (p *puller) heat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.isHot {
		p.isHot[i] = true
	}
}

// pull takes jobs for the free slots, and returns their number.
func (p *puller) pull() (taken int) {
	free := p.free()
	for i, consumer := range p.consumers {
		if taken >= free {
			break
		}
		p.mu.Lock()
		isHot := p.isHot[i]
		p.isHot[i] = false
		p.mu.Unlock()
		if !isHot {
			continue
		}
		n := p.fetch(consumer, free-taken)
		if taken += n; n > 0 {
			p.mu.Lock()
			p.isHot[i] = true
			p.mu.Unlock()
		}
	}
	return taken
}

// fetch takes at most n jobs that are queued now, and starts them.
func (p *puller) fetch(consumer jetstream.Consumer, n int) (taken int) {
	started := time.Now()
	batch, err := consumer.FetchNoWait(n)
	if err != nil {
		return 0
	}
	for msg := range batch.Messages() {
		p.slots.take()
		taken++
		p.server.handling.Go(func() {
			p.slots.end(p.handle(msg, started))
			p.signal()
		})
	}
	return taken
}

// free returns how many jobs the puller may take. Calls that the process makes otherwise, for
// instance over HTTP, have workers, too.
func (p *puller) free() int {
	p.mu.Lock()
	rest := p.rest
	p.mu.Unlock()
	if p.slots.room(p.slots.total) == 0 || time.Now().Before(rest) {
		return 0
	}
	return p.slots.room(capacity.Free(p.runner, p.nodes))
}

// pauseFor makes the puller take no jobs for a time, because the pipeline cannot run here.
func (p *puller) pauseFor(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = time.Now().Add(d)
}
