// Package runnertest helps to test programs that use package runner without Python: a
// [Node] takes the place of a Python node, and fails as that would.
//
// # Time
//
// Such a test waits neither for the delays between retries, nor for the cool-down of a
// breaker, nor for the deadlines of its contexts, if it runs in the bubble of
// [testing/synctest.Test]. All of the runner's times are those of package time, whose clock in
// a bubble advances as soon as all of its goroutines wait:
//
//	synctest.Test(t, func(t *testing.T) {
//		r, err := runner.New(pipeline, runner.WithNode("Embed", embed.Func))
//		…
//		defer r.Close(context.Background())
//		answer := httptest.NewRecorder()
//		handler(r)(answer, request) // three retries, each after a minute
//	})
//
// Create the runner in the bubble, and close it there. All of its nodes must be Go functions:
// the clock does not advance while a goroutine reads from a process or a socket. For the same
// reason, call an HTTP handler with a [net/http/httptest.ResponseRecorder], not through a
// server.
package runnertest

import (
	"context"
	"slices"
	"sync"
	"syscall"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Node is a node whose calls behave as a test says. Pass its method Func to
// [runner.WithNode]:
//
//	embed := runnertest.NewNode(runnertest.Return([]float32{1, 2})).
//		On(1, runnertest.Die(syscall.SIGSEGV))
//	r, err := runner.New(pipeline, runner.WithNode("Embed", embed.Func))
//
// Calls are counted from 1. A retry is a call of its own, as it is for a Python node. The
// methods are safe for concurrent use.
type Node struct {
	usual runner.NodeFunc

	mu     sync.Mutex
	on     map[int]runner.NodeFunc
	began  map[int]chan struct{}
	inputs []runner.Input
}

// NewNode returns a node all of whose calls run the given function, unless [Node.On] says
// something else.
func NewNode(usual runner.NodeFunc) *Node {
	return &Node{usual: usual, on: make(map[int]runner.NodeFunc), began: make(map[int]chan struct{})}
}

// On makes the call with the given number run another function. It returns the node.
func (n *Node) On(call int, do runner.NodeFunc) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.on[call] = do
	return n
}

// Func runs the function of the next call. It is a [runner.NodeFunc].
func (n *Node) Func(ctx context.Context, in runner.Input) (any, error) {
	n.mu.Lock()
	n.inputs = append(n.inputs, in)
	call := len(n.inputs)
	do, ok := n.on[call]
	if !ok {
		do = n.usual
	}
	close(n.beganLocked(call))
	n.mu.Unlock()
	return do(ctx, in)
}

// Began returns a channel that is closed when the call with the given number begins, so
// that a test can wait for it.
func (n *Node) Began(call int) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.beganLocked(call)
}

func (n *Node) beganLocked(call int) chan struct{} {
	if n.began[call] == nil {
		n.began[call] = make(chan struct{})
	}
	return n.began[call]
}

// Calls returns the number of calls so far.
func (n *Node) Calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.inputs)
}

// Inputs returns the inputs of all calls so far, in the order in which the calls began.
func (n *Node) Inputs() []runner.Input {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.inputs)
}

// Return returns a function that returns v.
func Return(v any) runner.NodeFunc {
	return func(context.Context, runner.Input) (any, error) { return v, nil }
}

// Raise returns a function that fails as Python code does that raises an exception, with an
// error of kind [runner.KindExecution]. The class is written as in a traceback, for instance
// "ValueError" or "json.decoder.JSONDecodeError". The bases are the classes that it inherits
// from, nearest first; Exception and BaseException are added. A policy and a breaker treat the exception by
// these names. To raise one as gophersnake.Permanent or Transient does, set the Verdict of a
// [runner.Error].
func Raise(class, message string, bases ...string) runner.NodeFunc {
	all := slices.Clone(bases)
	for _, base := range []string{"Exception", "BaseException"} {
		if class != base && !slices.Contains(all, base) {
			all = append(all, base)
		}
	}
	return Fail(&runner.Error{
		Kind: runner.KindExecution, Message: message, PythonClass: class, PythonBases: all, Operation: "call",
	})
}

// Die returns a function that fails as the call does during which a signal ends the
// interpreter, with an error of kind [runner.KindPythonVM].
func Die(signal syscall.Signal) runner.NodeFunc {
	exit := &worker.Exit{Signal: signal}
	return Fail(&runner.Error{
		Kind: runner.KindPythonVM, Message: exit.Summary(), Hint: exit.Hint(),
		Signal: worker.SignalName(signal), Operation: "call",
	})
}

// Hang returns a function that returns only when its context ends, with the error of that.
func Hang() runner.NodeFunc {
	return func(ctx context.Context, _ runner.Input) (any, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
}

// Fail returns a function that fails with an error. Use it for failures that the other
// functions do not make.
func Fail(err error) runner.NodeFunc {
	return func(context.Context, runner.Input) (any, error) { return nil, err }
}
