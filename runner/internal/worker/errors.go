package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// BrokenError says that the connection to a worker broke although its process
// lived; the process has been ended.
type BrokenError struct {
	Cause error
	Exit  *Exit
}

func (e *BrokenError) Error() string { return fmt.Sprintf("the connection broke: %v", e.Cause) }

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Cause }

// TemporaryFolderError says that no folder for the sockets of workers can be created in the
// system's folder for temporary files.
type TemporaryFolderError struct {
	Folder string
	Cause  error
}

func (e *TemporaryFolderError) Error() string {
	cause := e.Cause
	if path, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = path.Err // its path is that of a file in the folder
	}
	return fmt.Sprintf("the folder for temporary files, %s, cannot be used: %v", e.Folder, cause)
}

// Unwrap returns the cause.
func (e *TemporaryFolderError) Unwrap() error { return e.Cause }

// CanceledError says that the caller's context ended before the call did.
type CanceledError struct {
	// Cause is the context's cause.
	Cause error
	// Remote is the node's answer to the cancellation; its frames are those of
	// the node when it was canceled. It is nil if the call had not begun, or if the node did not stop
	// by itself.
	Remote *ipc.RemoteError
	// Exit is set if the interpreter ended, most often because the node ignored the
	// cancellation.
	Exit *Exit
}

func (e *CanceledError) Error() string {
	switch {
	case e.Exit != nil:
		return fmt.Sprintf("%v; %v", e.Cause, e.Exit)
	case e.Remote != nil:
		return e.Cause.Error() + location(e.Remote.Frames)
	}
	return e.Cause.Error()
}

// Unwrap returns the context's cause.
func (e *CanceledError) Unwrap() error { return e.Cause }

// DeadlineError says that a call passed its deadline and was canceled. The worker
// lives on, with the other calls that it has under way.
type DeadlineError struct {
	Limit time.Duration
	PID   int
	// Remote is the node's answer to the cancellation; its frames are those of
	// the node when it was canceled.
	Remote *ipc.RemoteError
}

func (e *DeadlineError) Error() string {
	return fmt.Sprintf("no answer within %s; the call was canceled%s", e.Limit, location(e.Remote.Frames))
}

// UnbegunError says that a worker ended before it began a call, as far as is known.
type UnbegunError struct {
	Exit *Exit
	// Sent means that the call was written to the worker, or may have been. Only the
	// worker's own begun count says then that node code did not run for it. Without Sent,
	// the call can be repeated safely, whatever the node does.
	Sent bool
	// Behind means that the worker had not answered a call that was sent before, and First
	// that none of those still has its caller.
	Behind, First bool
}

func (e *UnbegunError) Error() string {
	return fmt.Sprintf("the worker ended before it began the call: %v", e.Exit)
}

// Unwrap returns the exit.
func (e *UnbegunError) Unwrap() error { return e.Exit }

// SuspectError says that a worker ended while it ran this call and others, so that it is not
// known which of them ended it. That it had begun them is the worker's own word.
type SuspectError struct {
	// Err says how the worker ended: an [*Exit] or a [*BrokenError].
	Err  error
	Exit *Exit
	// Others is how many other calls were under way, and First means that this call was sent
	// before those of them that still have a caller.
	Others int
	First  bool
	// Over means that the worker runs its calls one after the other, and had begun another one
	// after this call. So this one had come to its end, and only its answer is lost.
	Over bool
}

func (e *SuspectError) Error() string {
	return fmt.Sprintf("%v, while %d other calls were under way", e.Err, e.Others)
}

// Unwrap returns the error that says how the worker ended.
func (e *SuspectError) Unwrap() error { return e.Err }

// callError converts the error of a failed call into one of those that Call documents.
// If the worker is ending, callError returns once it has ended.
func (w *Worker) callError(ctx context.Context, call *ipc.Call, overdue bool, err error) error {
	remote, isRemote := errors.AsType[*ipc.RemoteError](err)
	switch {
	case isRemote && !remote.Fatal:
		return w.remoteError(ctx, overdue, remote)
	case errors.Is(err, ipc.ErrAbandoned):
		return &CanceledError{Cause: context.Cause(ctx)}
	case !isRemote && !errors.Is(err, ipc.ErrClosed):
		return err // a *ipc.ValueError or *LimitError
	}
	w.process.waitOrEnd(ReasonBroken)
	<-w.done
	reason := w.exit.Reason
	switch {
	case ctx.Err() != nil && (reason == ReasonCancel || reason == ReasonSelf):
		// ReasonSelf: a node that resets the handler of the cancellation's signal dies of it.
		return &CanceledError{Cause: context.Cause(ctx), Exit: w.exit}
	case call.NeverWritten():
		return &UnbegunError{Exit: w.exit}
	case w.exit.Counted && call.Order() > w.exit.Begun:
		before, _, first := call.Company(w.exit.Begun)
		return &UnbegunError{Exit: w.exit, Sent: true, Behind: before > 0, First: first}
	}
	return w.endError(call, err)
}

// endError returns the error of a call that a worker had begun when it ended. The cause is
// why the connection ended.
func (w *Worker) endError(call *ipc.Call, cause error) error {
	var err error = w.exit
	if w.exit.Reason == ReasonBroken {
		if found := w.exit.protocolError(); found != "" {
			cause = fmt.Errorf("%w, which found: %s", cause, found)
		}
		err = &BrokenError{Cause: cause, Exit: w.exit}
	}
	begun := uint64(math.MaxUint64)
	if w.exit.Counted {
		begun = w.exit.Begun
	}
	before, after, first := call.Company(begun)
	serial := w.isSerial() && w.description.Batch == 0
	if before+after == 0 || serial && after == 0 {
		return err
	}
	return &SuspectError{Err: err, Exit: w.exit, Others: before + after, First: first, Over: serial}
}

// remoteError converts an error that the node raised into one of those that Call
// documents.
func (w *Worker) remoteError(ctx context.Context, overdue bool, remote *ipc.RemoteError) error {
	if remote.Oversize > 0 {
		return w.oversizeError(remote.Oversize, remote)
	}
	if remote.Kind != ipc.FailureCanceled {
		return remote
	}
	own := *remote
	switch {
	case ctx.Err() != nil:
		own.Frames = w.trimWorkerFrames(remote.Frames)
		return &CanceledError{Cause: context.Cause(ctx), Remote: &own}
	case overdue:
		own.Frames = w.trimWorkerFrames(remote.Frames)
		return &DeadlineError{Limit: w.config.Timeout, PID: w.PID(), Remote: &own}
	}
	// The node raised this by itself: it was not canceled.
	own.Kind = ipc.FailureExecution
	return &own
}

// trimWorkerFrames removes the worker's own frames at the end of a traceback. A
// cancellation is raised by the worker's signal handler, which runs on top of the
// node's frames.
func (w *Worker) trimWorkerFrames(frames []ipc.TracebackFrame) []ipc.TracebackFrame {
	for len(frames) > 0 && inFolder(frames[len(frames)-1].File, w.config.Package) {
		frames = frames[:len(frames)-1]
	}
	return frames
}
