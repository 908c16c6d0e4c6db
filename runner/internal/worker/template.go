package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Template keeps a process that has imported a node's module and forks workers from
// it: they need not import the module again, and share its memory as long as they do
// not write to it. The process is started with the first worker, which waits for it.
//
// A forked worker behaves like a spawned one. Three things that a module may do
// during its import do not survive a fork: starting threads, opening a GPU, and
// opening sockets. The template checks for them; if it finds one, workers are always
// spawned, and [Template.Note] says why. They are spawned as well as long as the
// template's process is not ready, because it died or could not import the module;
// the next one is then started after the worker that had to be spawned.
//
// Nodes of one module and environment share a template if their configurations name the same
// [Templates]. Its log messages then are those of the node that was first.
//
// Random numbers that a module draws during its import are the same in all of its
// workers. The global generators of random, NumPy and PyTorch are seeded anew in each.
//
// The process is in one of these states:
//
//	state     entered when                            a worker that starts then
//	unused    NewTemplate returns                     begins the first start
//	starting  a worker begins a start                 waits if it is the first start, else
//	                                                  is spawned
//	ready     the module has been imported            is forked
//	failed    a start failed, or the process died     is spawned, and begins the next start if
//	                                                  the restart delay is over
//	off       the module cannot be forked, workers    is spawned
//	          are isolated, or Close is called
//
// The restart delay doubles with each consecutive failure.
//
// A nil Template is valid and forks nothing. The methods are safe for concurrent use.
type Template struct {
	config            Config
	answerTimeout     time.Duration
	firstRestartDelay time.Duration

	ctx     context.Context // ends a start under way when the template is closed
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex      // guards the fields below
	server      *templateServer // nil unless ready
	firstStart  chan struct{}   // closed when the first start is over; nil before it begins
	starting    bool
	off         bool // permanently
	note        string
	failures    int       // consecutive ones, since a fork succeeded last
	nextRestart time.Time // no start before

	shared *Templates // guards the fields below; nil if the template is not shared
	key    templateKey
	users  int // those that have not closed it
}

// Templates are the templates of a set of pools, which share those that would be alike. They
// import code as it is when the first worker starts, so a pool that is to read its code again
// needs another set. A nil *Templates shares nothing. It is safe for concurrent use.
type Templates struct {
	mu    sync.Mutex
	byKey map[templateKey]*Template
}

// templateKey is what workers must have in common to be forked from one process: all that a
// process has before it knows its node. The node type is not among it, because a template
// does nothing but import.
type templateKey struct {
	python, pkg, base, modules, env, logLevel string
	memory                                    int64
}

// NewTemplates returns a set without templates.
func NewTemplates() *Templates { return &Templates{byKey: make(map[templateKey]*Template)} }

// Open returns the template for workers of the given configuration, which it shares with those
// that would get the same one. Each that opens it must close it.
func (s *Templates) Open(config Config) *Template {
	if s == nil || config.Isolation != nil {
		return NewTemplate(config)
	}
	key := keyOf(config)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.byKey[key]
	if t == nil {
		t = NewTemplate(config)
		t.shared, t.key = s, key
		s.byKey[key] = t
	}
	t.users++
	return t
}

// leave reports whether the last user closes the template. Nothing opens it again after that.
func (t *Template) leave() bool {
	if t.shared == nil {
		return true
	}
	t.shared.mu.Lock()
	defer t.shared.mu.Unlock()
	if t.users--; t.users > 0 {
		return false
	}
	if t.shared.byKey[t.key] == t {
		delete(t.shared.byKey, t.key)
	}
	return true
}

func keyOf(config Config) templateKey {
	modules := []string{moduleOf(config.Setup.Python)}
	for _, m := range config.Setup.Members {
		if module := moduleOf(m.Python); !slices.Contains(modules, module) {
			modules = append(modules, module)
		}
	}
	return templateKey{
		python: config.Python, pkg: config.Package, base: config.Setup.Base, modules: strings.Join(modules, "\x00"),
		env: strings.Join(config.Env, "\x00"), logLevel: config.Setup.LogLevel, memory: config.Setup.Limits.Memory,
	}
}

// moduleOf returns the module of the location of a node's code.
func moduleOf(python string) string {
	if colon := strings.LastIndexByte(python, ':'); colon >= 0 && !strings.HasSuffix(python, ".py") {
		return python[:colon] // what follows is an object
	}
	return python
}

const (
	// defaultAnswerTimeout is how long a fork may take.
	defaultAnswerTimeout = time.Second
	// minRestartDelay and maxRestartDelay bound the delay before a process that died is
	// replaced.
	minRestartDelay = time.Second
	maxRestartDelay = time.Minute
)

// NewTemplate returns the template for workers of the given configuration, whose own
// field Template is ignored. It starts nothing.
func NewTemplate(config Config) *Template {
	ctx, cancel := context.WithCancel(context.Background())
	note := noForkServer
	if config.Isolation != nil {
		// A sandbox is made for one worker, and forbids it to fork.
		note = "isolated workers are not forked"
	}
	return &Template{
		config: config, answerTimeout: defaultAnswerTimeout, firstRestartDelay: minRestartDelay,
		ctx: ctx, cancel: cancel, off: note != "", note: note,
	}
}

// Note says why workers are currently not forked. It is empty if they are, or if no
// worker has been started.
func (t *Template) Note() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.note
}

// Close ends the template's process and returns when it is gone. Its workers live on. If the
// template is shared, only the last call does so.
func (t *Template) Close() {
	if t == nil || !t.leave() {
		return
	}
	t.mu.Lock()
	t.off = true
	if t.note == "" {
		t.note = "the template was closed"
	}
	server := t.server
	t.mu.Unlock()
	t.cancel()
	if server != nil {
		server.close()
	}
	t.running.Wait()
}

// awaitFirstStart returns when the first start of the template's process is over, or
// the context ends. The first call begins that start.
func (t *Template) awaitFirstStart(ctx context.Context) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if t.firstStart == nil {
		t.firstStart = make(chan struct{})
		if t.off {
			close(t.firstStart)
		} else {
			t.startLocked()
		}
	}
	first := t.firstStart
	t.mu.Unlock()
	select {
	case <-first:
	case <-ctx.Done():
	}
}

// restartIfDue starts a new process if the last one has failed and the delay is over.
// It does not wait for it.
func (t *Template) restartIfDue() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server == nil && !t.starting && !t.off && !time.Now().Before(t.nextRestart) {
		t.startLocked()
	}
}

// readyServer returns the process if it is ready to fork, else nil.
func (t *Template) readyServer() *templateServer {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server
}

// startLocked starts a process in the background and records its end.
func (t *Template) startLocked() {
	t.starting = true
	t.running.Go(func() {
		server, err := startTemplateServer(t.ctx, t.config, t.answerTimeout)
		t.recordStart(server, err)
		if server != nil {
			<-server.process.done
			server.process.closeChannel()
			t.recordEnd(server)
		}
	})
}

// recordStart records the result of a start.
func (t *Template) recordStart(server *templateServer, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting = false
	unforkable, isUnforkable := errors.AsType[*unforkableError](err)
	switch {
	case t.off: // it was closed meanwhile
		if server != nil {
			t.running.Go(server.close)
		}
	case err == nil:
		t.server, t.note = server, ""
	case isUnforkable:
		t.off, t.note = true, "the node's workers cannot be forked: "+unforkable.reason
		t.config.Logger.Warn("the fork server is off", "reason", t.note)
	default:
		t.recordFailureLocked("the template did not start: " + err.Error())
	}
	select {
	case <-t.firstStart:
	default:
		close(t.firstStart)
	}
}

// recordEnd records that the process has ended.
func (t *Template) recordEnd(server *templateServer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server = nil
	if !t.off {
		t.recordFailureLocked("the template died: " + server.exitError(t.config.Package).Error())
	}
}

// recordFork records that the process has forked a worker.
func (t *Template) recordFork() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = 0
}

// recordFailureLocked delays the next start.
func (t *Template) recordFailureLocked(note string) {
	t.note = note
	t.nextRestart = time.Now().Add(min(maxRestartDelay, t.firstRestartDelay<<min(t.failures, 16)))
	t.failures++
	t.config.Logger.Warn("workers are started without a template", "reason", note)
}
