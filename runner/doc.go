// Package runner runs pipelines whose nodes are written in Python, or in Go, from a
// Go program. Python nodes run in worker processes, which the runner starts,
// monitors, replaces and ends. A crash in a node is an error for the caller and does
// not affect the program.
//
// # Running a pipeline
//
// [Load] reads a pipeline's manifest, [New] creates a [Runner] for it, and
// [Runner.Run] processes one input:
//
//	pipeline, err := runner.Load("pipeline.yaml")
//	…
//	r, err := runner.New(pipeline, runner.WithLogger(logger))
//	…
//	defer r.Close(context.Background())
//	result, err := r.Run(ctx, input)
//
// The first run builds the Python environment and starts the workers. [Runner.Start]
// does this in advance, so that a program finds problems before it serves calls. A
// Runner is safe for concurrent use. Any number of runs may be under way at once; the
// manifest limits the number of workers of each node, and calls wait in a queue for a
// worker.
//
// Package [github.com/gophersnake/gophersnake/runner/manifest] describes the format of
// the manifest.
//
// # Values
//
// The values that pass between nodes are nil, bool, 64-bit integers, float64, string,
// []byte, []any, map[string]any, [time.Time], *[ipc.Tensor], *[ipc.Audio],
// *[ipc.Image], *[ipc.Table] and [ipc.JSON]. An input may also contain other Go integers and floats,
// slices, maps with string keys, and structs. A result, and what a [NodeFunc] gets, contains
// only the types listed; its integers are int64, or uint64 if they do not fit. A result passes from one Python
// node to the next without being decoded.
//
// [Call] decodes the result into a Go type, as [As] and [Decode] do: structs by their json
// tags, slices of slices from tensors. A value that does not fit is an error of
// [KindMarshaling] with its path and both types.
//
//	got, err := runner.Call[string, Embedding](ctx, r, "some text")
//
// [Bind] compares such types with the annotations of the nodes before the first call, and the
// command gophersnake generate go writes them, with a client.
//
// A Python dict has an order, and a Go map has none. An [ipc.Object] in an input keeps the
// order of its members, and [WithOrderedMaps] makes results contain objects in place of
// maps.
//
// On Linux, tensors, recordings and images of 16 KiB and more, and bytes and texts of 32 KiB and
// more, are stored in shared memory. A Go value is copied into it once, however many nodes receive it, and between
// Python nodes only a reference passes. A node receives a read-only NumPy array. Its
// result is copied once, or not at all if the node allocates it with
// gophersnake.empty. [Runner.Run] copies the result out of shared memory,
// [Runner.RunView] and [Stream.RecvView] lend it to a function, and [Runner.RunShared] leaves it
// there. [WithSharedMemory] limits the size.
//
// # In a Go program
//
// [LoadFS] loads a pipeline that is part of the program by go:embed. [Runner.Node] calls one
// node alone, under its policy and breaker, and [CallNode] does so with types. Interceptors
// surround runs ([WithRunInterceptor]) and the operations of nodes ([WithCallInterceptor]),
// for instance to cache them. [WithTracerProvider] makes OpenTelemetry spans of runs, calls and
// attempts, whose context reaches the node. [WithSlog] sends logs to the standard library's
// logger.
//
// A test of such a program needs no Python: [WithNode] puts a Go function in the place of a
// Python node. The function gets and returns the same types as the node. Package
// [github.com/gophersnake/gophersnake/runner/runnertest] makes it fail as the node would.
//
// The guide docs/go.md shows all of this.
//
// # Streams
//
// [Runner.Stream] opens a stream through the pipeline. Items go in and come out in
// order, and several may be in processing at the same time.
//
//	s, err := r.Stream(ctx)
//	…
//	defer s.Close()
//	go func() {
//		for chunk := range microphone {
//			if s.Send(chunk) != nil {
//				return // Recv returns the error
//			}
//		}
//		s.CloseSend()
//	}()
//	for item, err := range s.All() {
//		…
//	}
//
// [Runner.Through] does the same for a sequence, and [OpenStream] with Go types. How a node processes an item depends on
// its kind:
//
//   - A plain node, or a Go function, returns one value. Up to [WithWindow] calls are
//     under way at once, on all its workers. Each call is retried under the node's
//     policy: if a worker dies, its items are processed again, and the results stay
//     complete, without duplicates, and in order.
//   - A generator processes one item at a time, and each of its values is passed on at
//     once. If it fails after some values, it is called again, and that many values are
//     dropped: a generator must yield the same values again. With idempotent: false the
//     stream ends instead.
//   - A stateful node has one session for each stream, in one worker, and processes the
//     items one after another. If an item fails or the worker dies, the state is lost
//     and the stream ends with an error that says how many items had been processed. A
//     node with snapshot and restore continues under its retry policy instead: the
//     runner takes a checkpoint every 16 items, restores the last one, and repeats the
//     items since then, dropping the results that had been passed on.
//
// If a pipeline fans out, each consumer receives each item, at the speed of the slowest
// one. A node whose inputs have ports processes one item of each at a time; all inputs must
// have the same number of items. A node with several inputs without ports processes the
// items of all of them one by one, in the order in which they arrive. A node without inputs is
// called once for each item.
//
// Between two nodes, at most [WithWindow] items and 64 MiB are under way or waiting (less
// if the limit of [WithSharedMemory] is small). Producers block, including
// [Stream.Send], so memory stays bounded however slow the consumer is.
//
// The first failure ends the stream. [Stream.Recv] returns all items that precede it in
// the order, and then the failure. [Stream.Close] and the end of the context end the
// stream at once.
//
// A run of a pipeline that has a generator, a stateful node, or a node with several inputs
// without ports is a stream of one item.
// Its result is the list of all values that come out.
//
// # Errors
//
// Every error is an *[Error]. One that joins several, for instance those of nodes that
// cannot be started, lists them by [Error.Faults]. The [Kind] says what sort of failure
// it is:
//
//	KindManifest       the pipeline is invalid
//	KindExecution      the node's code raised an exception
//	KindPythonVM       an interpreter died, hung, did not start, or ran out of memory
//	KindWasm           a WebAssembly module trapped, exited, hung, or ran out of memory
//	KindTransport      the connection to a worker broke while its process lived
//	KindIO             the operating system refused a file, a socket or an environment
//	KindMarshaling     a value cannot be passed between Go and Python
//	KindSerialization  a document cannot be encoded or decoded
//	KindOther          everything else, such as an open breaker or a canceled context
//
// A kind is a target for [errors.Is], and the fields have the details:
//
//	if errors.Is(err, runner.KindPythonVM) { … }
//
//	var e *runner.Error
//	if errors.As(err, &e) {
//		log.Error("run failed", "node", e.Node, "python", e.PythonClass, "attempt", e.Attempt)
//	}
//
// The verb %+v prints the full report of an error: the Python traceback with its source
// lines, how the interpreter ended, and the end of its standard error.
//
// # Retries and circuit breakers
//
// A call that fails with a retryable kind (KindExecution, KindPythonVM, KindWasm,
// KindTransport, KindIO) is retried under the node's policy: by default three times, after 100, 200 and
// 400 ms. If its worker died, another one makes the retry. A node overrides the kind by
// raising gophersnake.Permanent or gophersnake.Transient. In the manifest, retry,
// idempotent and breaker change the policy of a node; in Go, [WithPolicy] and
// [WithBreaker] change the default, and [Scheduler.Configure] a node at run time.
//
// Five consecutive failed operations open the node's circuit breaker. For 30 s its calls
// fail at once, with an error that wraps [retry.ErrOpen], without reaching a worker. Then
// one call is a probe that decides whether the breaker closes. Failures that the node did
// not cause do not count: cancellation by the caller, an input that cannot be marshaled,
// and exceptions that the node declares permanent.
//
// [Scheduler.Execute] runs any Go operation under the same rules.
//
// # Supervision
//
// A worker that dies is replaced, by a ready spare or by a new worker. The manifest,
// under workers and limits, says when workers are replaced for their age, memory or
// number of calls, when idle workers end, when waiting calls start more workers, and when
// too many waiting calls are refused. The field Limit of an [Error] names the limit that
// was exceeded. [WithEvents] reports all of this.
//
// [Runner.Health] returns the state of the runner, its nodes and their workers, as values,
// as a table or as JSON, with the reason for any problem. [Runner.Metrics] returns it as
// metrics, and [WriteMetrics] writes them for Prometheus. [WithMeasurements] has the time of each
// call; package telemetry/metrics makes histograms of them.
//
// [Runner.Reload] loads the code of the nodes again while runs and streams continue.
// [Runner.Drain] refuses new work and waits for work under way.
//
// # Deadlines and cancellation
//
// A call that exceeds the node's timeout (5 minutes by default) ends its interpreter. The
// error is of kind [KindPythonVM] and has the stacks of the interpreter's threads. If the
// context of a run ends, the runner raises an exception in the node, so that its finally
// blocks run. If the node has not returned 2 s later, its interpreter is ended. In both
// cases no code of the run is executing any more when Run returns.
//
// # Isolation
//
// A worker gets only a part of the host's environment variables; [WithPassEnv] and the
// manifest's pass_env add more. A node with isolation: strict in its manifest reads
// nothing but Python and the pipeline's folder, writes only to a temporary folder of its
// own, and has no network, no child processes and no privileges. If the isolation refuses
// an operation, the hint of the error says so. If the system does not support it, the
// node does not start. See docs/isolation.md.
//
// # Environments
//
// A pipeline with requirements runs in a virtual environment, which the runner builds
// with uv or pip and keeps in a cache folder. [Environments] and [PruneEnvironments]
// maintain that folder, and [Diagnose] checks whether the machine has everything that
// pipelines need.
//
// # Cleanup
//
// [Runner.Close] ends all workers and their child processes. If the program itself dies,
// even by SIGKILL, the kernel ends the workers.
package runner
