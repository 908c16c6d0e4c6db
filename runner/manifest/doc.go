// Package manifest reads and checks the documents that describe pipelines. It
// turns text into a [Pipeline], or into a list of all that is wrong with the text,
// with lines and columns. It starts no processes and imports no Python code.
//
// [Load] reads a file, [Parse] a text, and [Pipeline.Validate] checks a pipeline
// made in Go. [Pipeline.Graph] answers questions about the connections of nodes.
//
// # Document
//
// A manifest is YAML or JSON; [Schema] is its JSON Schema. This is a small one:
//
//	version: v1
//	python: nodes.py
//	nodes:
//	  - {id: resample, node_type: Resample, params: {rate: 16000}}
//	  - {id: vad, node_type: VoiceActivity}
//	connections:
//	  - {from: resample, to: vad}
//
// The fields of the document are
//
//	version       v1; required
//	metadata      a free map; name, a string, appears in messages
//	requirements  a list of pip requirement lines, or the name of a file of them
//	interpreter   name or path of the Python interpreter
//	python        the Python code of nodes that do not name their own
//	nodes         a list of at least one node; required
//	connections   a list
//	$schema       ignored; for editors
//
// Unknown fields are errors. File names are relative to the manifest, and the files
// must exist. A requirements file may have comments and continued lines as in pip,
// but must not refer to other files (-r, -c).
//
// # Nodes
//
//	id             letters, digits, _ and -, not beginning with -; unique; required
//	node_type      the name of the @node, of a Go function, or of a built-in type; required
//	python         path.py[:Object] or package.module[:Object]
//	wasm           the file of a WebAssembly module, or a map of it, in place of Python:
//	               {module: module.wasm, format: json}; the default format is msgpack;
//	               node_type is then optional, and params, env, pass_env and isolation are refused
//	params         a free map: the keyword arguments of the node
//	workers        a number, or a map, see below; default 1
//	timeout        deadline of each call, or none; default 5m
//	setup_timeout  deadline for a worker to start; default 2m
//	retry          see below
//	breaker        see below
//	idempotent     false if a call must not run twice; default true
//	limits         see below
//	env            environment variables of the workers; strings
//	pass_env       a list of names, such as HF_TOKEN or "AWS_*", of variables that
//	               the workers get from the host's environment, in addition to
//	               harmless ones
//	isolation      see below
//	requirements   as those of the document, for the node alone; a line replaces the
//	               document's lines for the same package
//	interpreter    name or path of the node's Python interpreter
//	container      see below
//	host           the machines that the node runs on, if gophersnake is connected to them: the
//	               name of one, or {label: gpu} or {label: gpu=h200}
//	is_output_node true if the node's values are part of the result even if a connection
//	               leads away from it
//
// A duration is text such as 500ms, 30s or 1m30s, or a plain number of seconds. A
// size is text such as 512MiB or 1.5GB (B, kB, MB, GB, TB are powers of 1000; KiB,
// MiB, GiB, TiB of 1024), or a plain number of bytes.
//
// # Workers and limits
//
// The workers of a node are processes. The map below shows the defaults.
//
//	workers: {min: 1, max: 1, spare: 1, scale_after: 100ms, idle_timeout: 5m}
//
//	min           workers that are always kept ready
//	max           most workers under load; at most 1024; default min
//	spare         additional workers, ready to replace one that dies
//	scale_after   how long a call is queued before another worker is started
//	idle_timeout  stop a worker beyond min that was idle for this long, or none
//	max_age       replace a worker after this time, or none; default none
//	max_calls     replace a worker after this many calls; default never
//	fork_server   fork workers from a process that has imported the node's code;
//	              default false
//	threads       calls of a plain def that run at once in threads of each worker, at
//	              most 256; default: what @node(threads=…) says, or 1
//
// Limits apply to each worker, and to the queue of calls that wait for one. No limit
// is set by default, except that memory, open_files and threads of an isolated node have
// defaults. These are examples:
//
//	limits: {memory: 2GiB, resident: 1GiB, resident_soft: 800MiB, cpu_time: 30s}
//	limits: {open_files: 256, threads: 64, result: 64MiB, queue: 1000, queue_wait: 10s}
//
//	memory         address space: further allocations fail; at least 16MiB. It also
//	               bounds files in memory, such as memfds: a worker that exceeds it with
//	               them is killed
//	resident       memory in use, with files in memory: a worker that exceeds it is
//	               killed; at least 16MiB
//	resident_soft  memory in use: a worker that exceeds it is replaced after its call
//	cpu_time       processor time of one call: the worker is killed beyond it
//	open_files     open file descriptors; at least 64
//	threads        threads of the worker and its processes: a worker that exceeds it is
//	               killed, or further ones are refused; at least 8
//	result         size of one result: the call fails with a larger one
//	queue          queued calls: further ones are refused
//	queue_wait     time that a call is queued before it is refused
//
// # Isolation
//
// The workers of a node have the rights of the host's user unless the node is
// isolated:
//
//	isolation: strict
//	isolation: {read: [data], write: [/var/cache/models], network: true, cpus: 1}
//
// strict is the empty map: no network, no additional processes, no privileges, and
// no signals to other processes. A worker can read Python, the system's libraries
// and the pipeline's folder, and can write to a temporary folder of its own. A map
// allows more:
//
//	read       additional files and folders that can be read; relative ones are in
//	           the pipeline's folder
//	write      files and folders that can be read and changed
//	network    allow sockets; default false
//	signals    allow signals to other processes; default false
//	processes  additional processes and threads that each worker may have, or any;
//	           default 0, which allows no process; limits.threads bounds the threads
//	cpus       CPUs that each worker may use at a time; default all
//
// A node does not run if the system cannot enforce its isolation. Isolation cannot be
// combined with fork_server. For an isolated node, limits.memory defaults to 4GiB,
// limits.open_files to 1024, and limits.threads to 256, or to 4 for each CPU if that is
// more; with a number of processes, which includes threads, limits.threads has no default.
//
// # Retry and breaker
//
// A node without these fields has the runner's policy and breaker. Omitted keys of
// a map have the values shown here.
//
//	retry: none
//	retry: {max_attempts: 3, base: 100ms, multiplier: 2, max: 400ms}
//	retry: {max_attempts: 3, fixed: 100ms}
//
// max_attempts is the number of retries, so a call runs at most once more than that.
// base is the first delay. Each further delay is multiplier times the one before, up
// to max, or without limit if max is none. If base is longer than 100ms, max defaults
// to four times base. fixed is the delay before each retry. Both forms also take
//
//	jitter   0 to 1, the fraction by which each delay varies randomly; default 0
//	budget   the time within which retries may start, or none; default none
//	on       the kinds of errors to retry; default all that are retryable
//	never    the Python exceptions that are not retried: [TypeError, KeyError]
//
// The kinds are execution, io, manifest, marshaling, other, python_vm,
// serialization, transport and wasm.
//
//	breaker: none
//	breaker: {failures: 5, cool_down: 30s, probes: 1}
//
// The breaker opens after failures failed operations in a row. It refuses operations
// for the time of cool_down, and then admits as many probes at once as probes says.
// It does not count failures that are the fault of an input: errors of kind marshaling,
// the exception gophersnake.Permanent, those that the node declares with
// @node(permanent=…), and the exceptions that ignore lists:
//
//	breaker: {ignore: [ValueError, PIL.UnidentifiedImageError]}
//
// never and ignore name classes of exceptions; those that inherit from them are meant
// too. A name is written as in an error, or without the names of modules.
//
// # Connections
//
// A connection passes the result of one node to another. If a node has several
// inputs, each connection names a port: the keyword argument that receives the value.
//
//	connections:
//	  - {from: left, to: mix.left}
//	  - {from: right, to: mix.right}
//
// A node with one input needs no port. If no connection to a node has a port, the node takes
// the values of all of them one by one, in the order in which they arrive; a run is then a
// stream of one item. Nodes without inputs receive the input of the run, and the values of
// nodes without outputs are its result. Cycles are errors, and
// so is a port that is used twice or that is also one of the params.
//
// A connection can fuse its nodes: one worker runs both, one after the other, and hands the
// value over as an object of Python, which costs a hundredth of the way between two workers.
//
//	connections:
//	  - {from: decode, to: resize, fuse: true}
//	  - {from: resize, to: classify, fuse: true}
//
// Both nodes must be Python nodes that return one value for each call, and must not be async. They
// have the same interpreter, requirements, workers, limits, env, pass_env, isolation and container.
// The value goes to no other node and is no part of the result, and the node that takes it has
// no other input. Timeout, retry, breaker and idempotent stay those of each node.
//
// # Values
//
// A manifest means the same in YAML and in JSON, so params and metadata hold what
// JSON has: null, true and false, strings, numbers, lists, and maps with string keys.
// Whole numbers have 64 bits, signed or unsigned; larger ones, NaN and infinities are
// errors. Params keep their order. Plain values have the meaning of YAML 1.2, and a YAML
// date is the string that was written. What YAML 1.1 reads differently is refused, since
// its author may have meant either: 017, 1_000, 0b101, and yes, no, on and off as free
// values. Anchors, aliases and merge keys (<<) work; duplicate keys are errors. A document
// has at most 8 MiB and 64 levels of nesting. params, env, metadata, requirements and
// connections may be left blank.
//
// # Containers
//
// Each worker of a node may run in a container of its own, by podman:
//
//	container: python:3.12
//	container: {image: python:3.12, network: true, memory: 2GiB, mounts: [{host: models, path: /models}]}
//
//	image          the image, which needs Python and the package msgpack
//	python         the interpreter in the image; default python3
//	network        give the container a network; default false
//	memory         limit of the memory of the container
//	cpus           CPUs that the container may use at a time
//	shared_memory  size of /dev/shm
//	mounts         files and folders of the host: host, path, and write; default write: false
//
// The pipeline's folder is mounted, and cannot be changed. A container cannot be combined with
// isolation, fork_server, requirements and interpreter.
//
// # Manifests of RemoteMedia
//
// The v1 form is that of the RemoteMedia SDK, which gophersnake implements. Its other fields,
// and those of its manifests of version 1.0, are read, too. A field that makes no difference
// here is accepted, and [Pipeline].Notes says why. A field that asks for what gophersnake does
// not have is an error. docs/remotemedia-manifests.md lists all of them.
package manifest
