// Package manifest reads and checks the documents that describe pipelines. It
// knows nothing of processes: it turns text into a [Pipeline], or into a list of
// all that is wrong with it, with lines and columns.
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
//	metadata      a free map; name, a string, is used in messages
//	requirements  a list of pip requirement lines, or the name of a file of them
//	interpreter   name or path of the Python interpreter
//	python        where node types are looked up whose nodes do not say
//	nodes         a list of one node or more; required
//	connections   a list
//	$schema       ignored; for editors
//
// Fields that are not known are errors. Names of files are relative to the
// manifest, and the files must exist. A requirements file has comments and
// continued lines as pip has them, but must not name further files (-r, -c).
//
// # Nodes
//
//	id             letters, digits, _ and -; not beginning with -; unique; required
//	node_type      the name of the @node, or of a Go function; required
//	python         path.py[:Object] or package.module[:Object]
//	params         a free map: the keyword arguments of the node
//	workers        a number, or a map, see below; default 1
//	timeout        deadline of each call, or none; default 5m
//	setup_timeout  deadline of a worker's start; default 2m
//	retry          see below
//	breaker        see below
//	idempotent     false where a call must not be made twice; default true
//	limits         see below
//	env            environment variables of the workers; strings
//	pass_env       a list of names, such as HF_TOKEN or "AWS_*", of variables of the
//	               host's environment that reach the workers besides harmless ones
//	isolation      see below
//
// A duration is text such as 500ms, 30s or 1m30s, or a plain number of seconds. A
// size is text such as 512MiB or 1.5GB (B, kB, MB, GB, TB are powers of 1000; KiB,
// MiB, GiB, TiB of 1024), or a plain number of bytes.
//
// # Workers and limits
//
// A node's workers are processes. What a manifest leaves out has the values shown
// here.
//
//	workers: {min: 1, max: 1, spare: 1, scale_after: 100ms, idle_timeout: 5m}
//
//	min           how many are kept ready
//	max           how many there may be under load; at most 1024; default min
//	spare         how many more stand by, to take the place of one that dies
//	scale_after   how long a call waits in line before one more is started
//	idle_timeout  one beyond min that has been idle for so long ends, or none
//	max_age       each is replaced after so long, or none; default none
//	max_calls     each is replaced after so many calls; default never
//	fork_server   whether they are forked from a process that has imported the
//	              node's code already; default false
//
// Limits bound each worker, and the line of calls that wait for one. None of them is
// set by default.
//
//	limits: {memory: 2GiB, resident: 1GiB, resident_soft: 800MiB, cpu_time: 30s}
//	limits: {open_files: 256, result: 64MiB, queue: 1000, queue_wait: 10s}
//
//	memory         of the address space: allocating more fails; from 16MiB
//	resident       of the memory in use: a worker that has more is ended; from 16MiB
//	resident_soft  a worker that has more in use is replaced after its call
//	cpu_time       of the processor time of a call; beyond, its worker is ended
//	open_files     of open descriptors; from 64
//	result         of the size of a result; a larger one is an error of its call
//	queue          of the calls in line; a further one is refused
//	queue_wait     of the time that a call waits in line
//
// # Isolation
//
// A node's workers may do what their user may, unless it is isolated:
//
//	isolation: strict
//	isolation: {read: [data], write: [/var/cache/models], network: true, cpus: 1}
//
// strict is the empty map: no network, no further processes, no privileges, no
// signals to others; Python, the system's libraries and the pipeline's folder can be
// read, and a temporary folder of each worker's own can be written. A map allows more:
//
//	read       folders and files that can be read; relative ones are in the
//	           pipeline's folder
//	write      those that can be changed as well
//	network    whether there are sockets; default false
//	signals    whether other processes can be signalled; default false
//	processes  how many further processes and threads each worker may have, or any;
//	           default 0, which is no process, and any number of threads
//	cpus       how many each may use at a time; default all
//
// Where the system cannot hold it, the node is not run. It does not go with
// fork_server. limits.memory is 4GiB where an isolated node does not set it.
//
// # Retry and breaker
//
// A node that says nothing has the runner's own policy and breaker. What it leaves
// out where it says something has the values shown here.
//
//	retry: none
//	retry: {max_attempts: 3, base: 100ms, multiplier: 2, max: 10s}
//	retry: {max_attempts: 3, fixed: 100ms}
//
// max_attempts is the number of retries, so there may be one execution more. base
// is the first delay, and each further one is multiplied, up to max (or none);
// fixed is the delay before each. Both forms also take
//
//	jitter   0 to 1, the part of each delay that it may vary by; default 0
//	budget   the time in which retries may begin, or none; default none
//	on       the kinds of errors that are retried; default all that are retryable
//
// The kinds are execution, io, manifest, marshaling, other, python_vm,
// serialization, transport and wasm.
//
//	breaker: none
//	breaker: {failures: 5, cool_down: 30s, probes: 1}
//
// The breaker opens after so many failed operations in a row, refuses all of them
// while it cools down, and then lets so many through at once to see.
//
// # Connections
//
// A connection hands the result of one node to another. A node with several inputs
// names a port for each, which is the keyword argument that takes it:
//
//	connections:
//	  - {from: left, to: mix.left}
//	  - {from: right, to: mix.right}
//
// A node with one input may do without. Nodes without inputs take the input of the
// run, and those without outputs give its result. Cycles are errors, and so are a
// port that is used twice and one that is also among the params.
//
// # Values
//
// A manifest means the same in YAML and in JSON, so params and metadata hold what
// JSON has: null, true and false, strings, numbers, lists, and maps whose keys are
// strings. Whole numbers have 64 bits, signed or unsigned; larger ones, NaN and
// infinities are errors. A date in YAML is a string, as it is written. Anchors,
// aliases and merge keys (<<) work; duplicate keys are errors. A document has at
// most 8 MiB and 64 levels. params, env, metadata, requirements and connections
// may be left blank.
//
// # Manifests of other systems
//
// The v1 form is that of the system that gophersnake implements. Of its further
// fields, those that make no difference here are taken and ignored: is_streaming
// (the Python code says so itself), capabilities, is_output_node where it is
// false, runtime_hint where it is auto or cpython, and execution where its
// placement allows this machine. Where they ask for something that gophersnake
// does not do they are errors, as are host and docker. Several inputs without
// ports, which v1 allows, are errors too.
package manifest
