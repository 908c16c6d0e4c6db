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
// []any, map[string]any, [time.Time], *[ipc.Tensor], *[ipc.Audio], *[ipc.Image] and [ipc.JSON].
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
// # Streams
//
// [Runner.Stream] opens a stream through the pipeline: items go in and come out, in
// order, while others are under way in its nodes.
//
//	s, err := r.Stream(ctx)
//	…
//	defer s.Close()
//	go func() {
//		for chunk := range microphone {
//			if s.Send(chunk) != nil {
//				return // Recv tells why
//			}
//		}
//		s.CloseSend()
//	}()
//	for item, err := range s.All() {
//		…
//	}
//
// [Runner.Through] does this for a sequence. What a node does with an item is up to
// its kind:
//
//   - An ordinary node, a Go function included, gives one value. Up to [WithWindow]
//     calls are under way at once, on as many workers as there are, and each has the
//     node's retries: when a worker dies, its item is called again, and nothing is
//     lost, repeated or out of order.
//   - A generator takes one item at a time, and each value goes on as soon as it is
//     there. Where it fails after some values it is called again, and as many as
//     have gone on are dropped: it must give the same values again. With idempotent:
//     false the stream ends instead.
//   - A stateful node has one session for each stream, on one worker, and takes the
//     items one after the other. When an item fails or the worker dies, its state is
//     lost, and the stream ends with an error that says how far it had come. A node
//     that has snapshot and restore goes on instead, under its retry policy: it is
//     given the state of its last checkpoint, which is taken every 16 items, and the
//     items since, whose results are dropped, since they have gone on already.
//
// Where a pipeline fans out, each consumer gets each item, and the slowest one sets
// the pace. A node with several inputs takes one item of each, in step; they must
// give as many items as each other. A node without input is called once for each item.
//
// Between two nodes at most [WithWindow] items and 64 MiB are under way or waiting
// (less where [WithSharedMemory] is small). Who is ahead waits, [Stream.Send]
// included, so that memory stays flat whatever the consumer does.
//
// The first failure ends the stream. It takes its place in the order: [Stream.Recv]
// gives all items before it first. The end of the context and [Stream.Close] end it
// at once.
//
// A run of a pipeline that has a generator or a stateful node is a stream of one
// item, and its result is the list of what came out.
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
//	if errors.Is(err, runner.KindPythonVM) { … }
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
// # Supervision
//
// A worker that dies is replaced: by a spare, which is ready, or else by a new one.
// Workers that are too old, too large or idle are replaced or ended, more are started
// when calls wait in line, and calls are refused when too many do: all as the manifest
// says of the node, under workers and limits. [Error].Limit names the limit that an
// error is of, and [WithEvents] tells of each.
//
// [Runner.Health] says how the runner, its nodes and their workers are, as a table or
// as JSON, and why where it is not well; [Runner.Metrics] has the same as figures, and
// [WriteMetrics] writes them for Prometheus.
//
// [Runner.Reload] has nodes read their code again while runs and streams go on, and
// [Runner.Drain] lets nothing more begin and waits for what is under way.
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
// # Isolation
//
// A worker gets the harmless part of the host's environment; [WithPassEnv] and a
// node's pass_env name what else it gets. A node whose manifest says isolation:
// strict reads Python and the pipeline's folder alone, writes to a temporary folder
// of its own, and has no network, no further processes and no privileges. What
// refused it something stands in the error's hint. Where the system cannot do that,
// the node is not run: see docs/isolation.md.
//
// # What is left behind
//
// Nothing. [Runner.Close] ends all workers, and their own children with them. If
// the program itself dies, by SIGKILL even, the kernel ends them.
package runner
