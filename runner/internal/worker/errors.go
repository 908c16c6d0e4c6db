package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// Stage is a step of a worker's start.
type Stage string

// The stages of a start.
const (
	StageSpawn     Stage = "spawn"     // the process could not be started
	StageHandshake Stage = "handshake" // it did not announce itself, or was not who it should be
	StageSetup     Stage = "setup"     // it could not make its node ready
)

// StartError says why a worker could not be started.
type StartError struct {
	Stage  Stage
	Python string
	// Cause is a *[ipc.RemoteError] where the worker itself said what is wrong,
	// a *[Exit] where it ended without a word, else an error of the system's or
	// of the protocol's.
	Cause error
	// Exit is the autopsy of the process, nil where there never was one.
	Exit *Exit
}

func (e *StartError) Error() string {
	return fmt.Sprintf("%s: %v", e.Summary(), e.Cause)
}

// Summary says what happened, without the cause.
func (e *StartError) Summary() string {
	switch e.Stage {
	case StageSpawn:
		return "cannot run " + e.Python
	case StageHandshake:
		return "the worker did not come up"
	}
	return "the worker could not set up its node"
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Cause }

// BrokenError says that the connection to a worker broke although its process
// lived; the process has been ended.
type BrokenError struct {
	Cause error
	Exit  *Exit
}

func (e *BrokenError) Error() string { return fmt.Sprintf("the connection broke: %v", e.Cause) }

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Cause }

// CanceledError says that the caller's context ended before the call did.
type CanceledError struct {
	// Cause is the context's.
	Cause error
	// Where is the node's last word: where in Python it was. It is nil where the
	// call had not begun, or the node did not give up by itself.
	Where *ipc.RemoteError
	// Exit is set where the interpreter ended over it, most often because the
	// node ignored the cancellation.
	Exit *Exit
}

func (e *CanceledError) Error() string {
	switch {
	case e.Exit != nil:
		return fmt.Sprintf("%v; %v", e.Cause, e.Exit)
	case e.Where != nil:
		return e.Cause.Error() + where(e.Where.Frames)
	}
	return e.Cause.Error()
}

// Unwrap returns the context's cause.
func (e *CanceledError) Unwrap() error { return e.Cause }

// DeadlineError says that a call ran past its deadline and was cancelled, and that
// the worker lives on, with the other calls that it has under way.
type DeadlineError struct {
	Limit time.Duration
	PID   int
	// Where is the node's last word: where in Python it was.
	Where *ipc.RemoteError
}

func (e *DeadlineError) Error() string {
	return fmt.Sprintf("no answer within %s; the call was cancelled%s", e.Limit, where(e.Where.Frames))
}

// UnbegunError says that a worker ended before it came to a call that it had been
// sent. The call can be made again, whatever the node does.
type UnbegunError struct{ Exit *Exit }

func (e *UnbegunError) Error() string {
	return fmt.Sprintf("the worker ended before it came to the call: %v", e.Exit)
}

// Unwrap returns the exit.
func (e *UnbegunError) Unwrap() error { return e.Exit }

// startError ends the process of a start that failed and says why it did.
func (w *Worker) startError(ctx context.Context, stage Stage, cause error) error {
	e := &StartError{Stage: stage, Python: w.config.Python, Cause: cause}
	if w.process.wasStarted() {
		var lastWord *ipc.RemoteError
		errors.As(cause, &lastWord) // while it starts, any word is its last
		w.process.endUnlessDying(ReasonBroken)
		e.Exit = w.autopsy(lastWord)
		// What broke the connection matters only where the process outlived it.
		if e.Exit.Remote == nil && e.Exit.Reason != ReasonBroken {
			e.Cause = e.Exit
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start a worker: %w", context.Cause(ctx))
	}
	return e
}

// withoutOwn leaves out the worker's own frames at the end: a cancellation is
// raised by its signal handler, and the node was where that was called.
func (w *Worker) withoutOwn(frames []ipc.TracebackFrame) []ipc.TracebackFrame {
	for len(frames) > 0 && inFolder(frames[len(frames)-1].File, w.config.Package) {
		frames = frames[:len(frames)-1]
	}
	return frames
}
