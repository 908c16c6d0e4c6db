// Package runner runs pipelines whose nodes are written in Python, or in Go, from
// a Go program. Python nodes run in worker processes that the runner starts,
// watches, replaces and ends; a fault in one of them is an error here, and never
// the end of the program.
//
// # Running a pipeline
//
// [Load] reads a pipeline's manifest, [New] makes a [Runner] of it, and
// [Runner.Run] takes an input through it:
//
//	pipeline, err := runner.Load("pipeline.yaml")
//	…
//	r, err := runner.New(pipeline, runner.WithLogger(logger))
//	…
//	defer r.Close(context.Background())
//	result, err := r.Run(ctx, input)
//
// The first run makes the Python environment and starts the workers; a program
// that wants this done, and its errors known, before it serves calls
// [Runner.Start]. A Runner is safe for concurrent use. How many runs go on at
// once is up to the callers; how many calls of a node do, up to the node's
// workers in the manifest, where further callers wait in line.
//
// The format of the manifest is described in package
// [github.com/gophersnake/gophersnake/runner/manifest].
//
// # Values
//
// Between nodes go nil, bool, integers of 64 bits, float64, string, []byte,
// []any, map[string]any, [time.Time], *[Tensor], *[Audio], *[Image] and [JSON].
// What goes in may also be made of other Go integers and floats, slices, maps
// with string keys, and structs. What comes out is of the types listed, integers
// as int64 unless they need uint64. A result goes from one Python node to the
// next as it came, without being decoded on the way.
//
// Tensors, recordings and images of 128 KiB and more lie in shared memory: a Go
// value is copied into it once, whoever it goes to, and from one Python node to the
// next only its place is passed on. What a node gets is a read-only NumPy array;
// what it returns is copied once, or not at all where it made it with
// gophersnake.empty. [Runner.Run] copies the result out of it, and
// [Runner.RunShared] leaves it there. [WithSharedMemory] bounds it.
//
// # Errors
//
// All errors are an *[Error], several at once where [errors.Join] made one of
// them. The [Kind] says what sort of failure it is:
//
//	Manifest       the pipeline is wrong
//	Execution      the node's code raised an exception
//	PythonVm       the interpreter died, hung, could not start, ran out of memory
//	Transport      the connection to a worker broke while its process lived
//	Io             files, sockets, environments: the operating system said no
//	Marshaling     a value cannot be carried
//	Serialization  a document cannot be encoded or decoded
//	Other          the rest: an open breaker, a cancelled context
//
// A kind is a target for errors.Is, and the fields tell more:
//
//	if errors.Is(err, runner.PythonVm) { … }
//
//	var e *runner.Error
//	if errors.As(err, &e) {
//		log.Error("run failed", "node", e.Node, "python", e.PythonClass, "attempt", e.Attempt)
//	}
//
// Printed with %+v an error tells the whole story: the Python traceback with its
// source lines, how the interpreter ended, what it last wrote.
//
// # Retries and breakers
//
// A failed call of a retryable kind (Execution, PythonVm, Transport, Io) is tried
// again under the node's policy: three times by default, after 100, 200 and 400
// ms. A worker that died is replaced before the retry reaches it. A node says
// otherwise by raising gophersnake.Permanent or gophersnake.Transient, and the
// manifest by retry, idempotent and breaker.
//
// Five failed operations in a row open the node's circuit breaker: for 30 s its
// calls fail at once, with an error that wraps [retry.ErrOpen], and no worker is
// touched. Then one call probes whether the node is well again. What the caller
// is to blame for does not count: his cancellation, an input that cannot be
// carried, an exception that the node calls Permanent.
//
// [Scheduler.Execute] runs any Go operation under the same rules.
//
// # Deadlines and cancellation
//
// A call that passes the node's timeout (5 minutes unless the manifest says
// otherwise) takes its interpreter with it: the stacks of all its threads are
// written into the error first, and the kind is PythonVm. When the context of a
// run ends, the node is interrupted by an exception, so that its finally blocks
// run; if it goes on for 2 s nevertheless, its interpreter is ended too. Either
// way, when Run returns, nothing of it is still running.
//
// # What is left behind
//
// Nothing. [Runner.Close] ends all workers, and their own children with them. If
// the program itself dies, by SIGKILL even, the kernel ends them.
package runner
