package worker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Template is a process that has imported a node's module, and forks workers: they
// need not import it again, and share its memory as long as they do not write there.
// It is started with the first worker, which waits for it.
//
// A forked worker is like any other. Three things that a module may do while it is
// imported do not go with forks, and are looked for: to start threads, to open a
// GPU, and to open sockets. Workers are spawned then, and [Template.Note] says why;
// so they are while there is no template, because it died or could not import the
// module. Then the next one is started, behind the worker that had to be spawned.
//
// What a module draws at random while it is imported, the workers have in common;
// the global generators of random and NumPy are seeded anew in each of them.
//
// A nil Template forks nothing.
type Template struct {
	config   Config
	patience time.Duration // for a fork
	pause    time.Duration // before a template follows one that died; it doubles

	ctx     context.Context // ends the start under way when it is closed
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	server   *server       // the one that forks, if there is one
	first    chan struct{} // closed when the first start is over; nil before it begins
	starting bool
	off      bool // for good
	note     string
	setbacks int       // failures and deaths since the last one that became ready and forked
	next     time.Time // no template is started before
}

const (
	// forkPatience is how long a fork may take.
	forkPatience = time.Second
	// firstPause and lastPause are the delays of a template that follows.
	firstPause = time.Second
	lastPause  = time.Minute
)

// NewTemplate returns the template for workers of the given configuration, whose own
// Template is not looked at. Nothing is started.
func NewTemplate(config Config) *Template {
	ctx, cancel := context.WithCancel(context.Background())
	note := noForkServer
	if config.Isolation != nil {
		// What isolates a worker is made for it alone, and forbids to fork.
		note = "isolated workers are not forked"
	}
	return &Template{
		config: config, patience: forkPatience, pause: firstPause,
		ctx: ctx, cancel: cancel, off: note != "", note: note,
	}
}

// Note says why workers are not forked at the moment; it is empty where they are, or
// none has been started.
func (t *Template) Note() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.note
}

// Close ends the template's process and returns when it is gone. How workers ended
// that outlive it will not be known.
func (t *Template) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.off = true
	if t.note == "" {
		t.note = "the template was closed"
	}
	s := t.server
	t.mu.Unlock()
	t.cancel()
	if s != nil {
		s.close()
	}
	t.running.Wait()
}

// await returns when the first start of the template is over, having set about it
// where that was still to be done, or when the context ends.
func (t *Template) await(ctx context.Context) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if t.first == nil {
		t.first = make(chan struct{})
		if t.off {
			close(t.first)
		} else {
			t.begin()
		}
	}
	first := t.first
	t.mu.Unlock()
	select {
	case <-first:
	case <-ctx.Done():
	}
}

// renew starts a template where the last one is gone, unless it is too early.
func (t *Template) renew() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server == nil && !t.starting && !t.off && !time.Now().Before(t.next) {
		t.begin()
	}
}

// serving returns the template that forks, nil where there is none.
func (t *Template) serving() *server {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server
}

// begin starts a template; the lock is held.
func (t *Template) begin() {
	t.starting = true
	t.running.Go(func() {
		s, err := startServer(t.ctx, t.config, t.patience)
		t.started(s, err)
		if s != nil {
			<-s.process.done
			s.process.closeChannel()
			t.lost(s)
		}
	})
}

// started takes down what came of a start.
func (t *Template) started(s *server, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting = false
	var unfit *unfitError
	switch {
	case t.off: // it was closed meanwhile
		if s != nil {
			t.running.Go(s.close)
		}
	case err == nil:
		t.server, t.note = s, ""
	case errors.As(err, &unfit):
		t.off, t.note = true, "the node's workers cannot be forked: "+unfit.why
		t.config.Logger.Warn("the fork server is off", "reason", t.note)
	default:
		t.setBack("the template did not come up: " + err.Error())
	}
	select {
	case <-t.first:
	default:
		close(t.first)
	}
}

// lost takes down that a template has ended.
func (t *Template) lost(s *server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server = nil
	if !t.off {
		t.setBack("the template died: " + s.end(t.config.Package).Error())
	}
}

// proved takes down that the template has forked a worker.
func (t *Template) proved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setbacks = 0
}

// setBack puts the next start off; the lock is held.
func (t *Template) setBack(note string) {
	t.note = note
	t.next = time.Now().Add(min(lastPause, t.pause<<min(t.setbacks, 16)))
	t.setbacks++
	t.config.Logger.Warn("workers are started without a template", "reason", note)
}
