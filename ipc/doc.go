// Package ipc holds the values that Go programs and Python nodes exchange, and the
// wire that carries them between a supervisor and a Python worker process. It does
// not start processes and does not depend on pools, pipelines or manifests.
//
// A program that runs nodes uses the values: [Tensor], [Audio], [Image], [Table]
// and [JSON], besides the ordinary Go values that [Encode] lists. A supervisor also uses the
// connection: [Dial] connects to a worker, [Start] sets it up and returns a [Conn],
// and a [Call] runs the node once. The rest of this comment specifies the wire
// for implementers of either end. Integers outside of msgpack are little-endian.
//
// # Values
//
// Values are encoded as msgpack: nil, bool, signed and unsigned integers of 64 bits,
// float64, str (UTF-8), bin, array, map with str keys, the timestamp extension (-1) in
// the years 1 to 9999, and the application extensions below. The order of a map's keys is
// part of the value: Python's dict keeps it, [Object] keeps it in Go, and a Go map does not.
// If a map contains a key twice, the last one counts. NaN and the infinities are ordinary float64 values.
//
//	1 Tensor   array: dtype (str), shape (array of uint), data; C order, little-endian
//	2 Audio    array: rate in Hz (uint), channels (uint), data; float32, interleaved
//	3 Image    array: format (str), width, height (uint), pts in seconds (float or nil), data
//	4 JSON     not msgpack but the UTF-8 text of a JSON document, without NaN or infinities
//	5 Table    array: data; an Arrow IPC stream
//	6 large    array: form (str), data (nil); a value of 32 KiB or more in a buffer: bytes if
//	           the form is "bin", text in UTF-8 if it is "str", a JSON document if it is "json"
//
// The payload of all but JSON is msgpack itself. Their data is either bin or nil.
// Nil stands for the next buffer of the frame: a decoder consumes the frame's buffers
// one by one, in the order in which it meets such extensions. A body contains no
// buffer numbers, so encoded values can be placed side by side, and their buffers
// likewise, without decoding them. A result is forwarded to the next node in this way.
//
// The stream of a table has a schema, dictionaries and record batches, in any order that Arrow
// permits, with buffers aligned to 8 bytes. This package forwards it as it is. A reader checks
// all of it before it uses any of it: the supervisor's in memory that no worker can write to, and
// a worker's in what was copied out of isolated workers.
//
// A value that cannot be carried is refused by the encoder, with the path inside the
// value: integers beyond 64 bits, map keys that are not str, cycles, nesting deeper
// than [Limits].Depth, and types that are not listed here.
//
// The file testdata/vectors.json holds values and frames in their encoded form. The
// tests of both languages read it.
//
// # Frames
//
// Both sides send frames. A frame is a header, a body and buffers.
//
//	offset size
//	0      1    magic, 0x47
//	1      1    protocol version, 1
//	2      1    frame type
//	3      1    flags: 0, or 1 if something follows the header: the context of the call, or in
//	            an answer the time of the call
//	4      4    length of the body in bytes
//	8      8    call id; 0 if the frame belongs to no call
//	16     4    number of buffers, n
//	20     4    session; 0 if the frame belongs to none
//	24     …    the context or the time of the call, if the flags say so
//	…      24·n buffer descriptors
//	…           the body: msgpack
//	…           the inline buffers, one after the other, in their order
//
// A buffer descriptor is
//
//	0      4    segment: 0 for bytes that follow inline, otherwise the id of a shared segment
//	4      4    reserved, 0
//	8      8    offset inside the segment; 0 for inline bytes
//	16     8    length in bytes
//
// The supervisor may add the context of the call to a call, open, finish or snapshot frame.
// It is for the node to read, and has no effect on the protocol but that on the answer:
//
//	0      8    deadline of the caller in nanoseconds, on the system's monotonic clock; 0 for none
//	8      4    attempt, from 1; without a context it is 1
//	12     4    length of the trace context, t: 0 for none, else from 25 to 537
//	16     t    trace id (16), id of the span (8), flags (1) and tracestate, as in W3C Trace Context
//
// A worker adds the time of the call to the result or error frame that answers a call with a
// trace context: 8 bytes, the nanoseconds from when it read the call until it sent the answer. It
// is the word of the worker, and only shown.
//
// A receiver checks every length against [Limits] before it allocates memory for it.
// Beyond 64 MiB it allocates only as the bytes arrive. It refuses a frame in which a
// field that must be 0 is not, and buffers in a frame that carries no value. The section
// on the trust boundary lists every bound.
//
// # Frame types
//
//	type              direction  body
//	 1 hello          ← worker   map: protocol, package, python, pid
//	 2 setup          → worker   map: see [Setup]
//	 3 ready          ← worker   map: see [Description]
//	 4 call           → worker   array of 2: positional values (array), named values (map)
//	 5 result         ← worker   one value
//	 6 error          ← worker   map: see [RemoteError]; call id 0 during setup
//	 7 cancel         → worker   empty
//	 8 log            ← worker   map: see [LogRecord]
//	 9 progress       ← worker   map: see [Progress]
//	10 ping           → worker   empty
//	11 pong           ← worker   empty; has the call id of the ping
//	12 shutdown       → worker   empty
//	13 release        both       array of [segment, count]: references that are released
//	14 forget         both       array of segments that their owner has destroyed
//	15 item           ← worker   one value of a call that returns many
//	16 credit         → worker   uint: how many more items the worker may send
//	17 open           → worker   array of at most 1: the state to restore
//	18 finish         → worker   empty
//	19 drop           → worker   empty; call id 0; not answered
//	20 snapshot       → worker   empty
//
// # Connecting
//
// A worker process starts with three descriptors beside the standard three:
//
//   - 3 is the read end of the lifeline, a pipe whose write end only the supervisor
//     holds. The supervisor writes a secret of [SecretSize] random bytes into it. End of
//     file means that the supervisor is gone.
//   - 4 is the autopsy file. Its first 8 bytes hold the begun count, the next 8 bytes the
//     heartbeat pipe, and 16 further ones the running member, all described below. Behind them
//     the interpreter writes its exit report.
//   - 5 is the worker's end of the channel, a socket that carries the descriptors of
//     shared segments. It is absent if no memory is shared.
//
// The worker listens on a Unix socket in $PLUGIN_UNIX_SOCKET_DIR and announces it on its
// standard output with a line in the form of go-plugin's handshake:
//
//	1|1|unix|/path/to/the/socket|msgpack
//
// The supervisor connects, checks the peer's uid and pid, and writes the secret. The
// worker checks the peer's uid and the secret, stops listening and removes the socket
// and its folder. From then on both sides send frames.
//
// The worker sends hello and the supervisor answers with setup. The worker ends its
// setup with ready, or with an error. It may send log and progress frames before. Later progress
// frames name the calls that they are about. One without calls is about the node.
//
// # Calls
//
// Many calls may be pending on one connection; the call id distinguishes them. Each call
// is answered by exactly one result or error, including one that has been canceled. A
// synchronous node cannot read the socket while it works, so the supervisor sends the
// signal SIGUSR1 after a cancel frame, which makes the worker check its socket.
//
// If the node takes its calls one after the other, the worker answers them in the order
// in which they arrived. It may hold back small answers while further calls have already
// arrived, and send the answers together.
//
// A node may return many values, which its ready message says. A call of such a node is
// answered by any number of items followed by a result of nil, or by an error. The items
// of one call that have been sent and not yet credited stay within the setup's [Window];
// the worker waits for credit before it sends the next one. Credit for a call that has
// been answered has no effect.
//
// # Sessions
//
// A stateful node has a separate state in each session. The supervisor numbers a session
// and opens it. The session's calls, snapshot and finish carry the number in their
// headers. Open, snapshot and finish are answered as calls are: open by nil, snapshot by
// the state, finish by items. A session ends when finish has been answered, or with drop.
// After an error in open the session does not exist; other errors leave it as it is.
//
// # Fused chains
//
// If setup has members, the worker runs several nodes. A call passes through all of them, each
// with the value of the one before, and is answered with the value of the last. A call whose
// header has a session number n passes through the n-th member alone, counted from 1. The
// description, errors, log records and progress messages name the member that they are of.
//
// Before it runs a member, the worker writes that member's number, counted from 1, behind the
// heartbeat pipe, a uint64, and behind that the seconds of the system's monotonic clock, a
// float64. From them the supervisor tells in which member a worker has died, and how long that has run. They
// are the word of the worker: the deadlines of all members together bound a call in any case.
//
// # Shared memory
//
// A segment is a memfd. Its owner, the supervisor or a worker, maps it for writing and then
// seals it, with F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE and F_SEAL_SEAL: its size is
// fixed, and only the owner's mapping can write. A borrower maps it for reading; the kernel
// allows nothing else, however the borrower opens the file. Without F_SEAL_FUTURE_WRITE, which
// Linux has had since version 5.1, no memory is shared, and buffers go inline. The owner
// numbers the segment, and sends its descriptor over the channel once to each side that uses
// the segment, before the first frame that refers to it. The message is 12 bytes: the
// number (4) and the size (8). A worker's own segments have bit 31 set in their numbers.
// Without that bit, a number is the supervisor's; workers refer to the segments of other
// workers by such numbers too. A receiver refuses a segment whose size is not sealed or
// differs from the size in the message, and one that has neither F_SEAL_FUTURE_WRITE nor
// F_SEAL_WRITE. The supervisor does not wait for a descriptor,
// because it has arrived before the frame that names the segment, or never will.
//
// The segments of a worker that the supervisor has mapped are bounded in bytes and in
// number by setup's [SetupShared]. A segment counts with its whole size, also if it is
// sparse, until it is unmapped: when the worker has forgotten it and no value refers to it.
// So a worker that replaces a segment sends the forget frame before the frame that names
// the new one. The number is a part of the descriptors that the supervisor's process may
// have. A worker that has none left sends its buffers inline.
//
// Each buffer descriptor that names a segment is a reference to it. The receiver reports
// in a release frame when it no longer uses a reference. When every reference to a
// segment has been released, its owner may reuse the segment or destroy it, which it
// reports in a forget frame. A release frame releases at least one reference of each segment
// that it names, and at most those that the sender holds. When a worker dies, its references
// count as released, and its own segments live on while others still refer to them.
//
// A worker may keep what it was lent after the call has been answered. Once it keeps more than
// a quarter of [SetupShared].Limit in several segments, its further inputs go inline until it
// releases some, so that only its own calls are slower.
//
// From a worker that is not isolated to another such worker, the supervisor forwards
// references and neither reads nor copies the memory. Isolated workers are kept apart:
//
//   - Each isolated node has a [Domain] of its own, which all its workers share. All workers
//     that are not isolated are in one domain. A segment of the supervisor's has one domain for
//     life, holds only what is for this domain, and is lent only to workers of it. A new
//     segment is zero. So no worker finds in a segment what was for others.
//   - To lend a buffer to another domain than its own, the supervisor copies it into a segment
//     of that domain: the buffer alone, not what is beside it. Without room in the [Arena], the
//     buffer goes inline.
//   - A value in an isolated worker's own segments is copied when its frame arrives, before it
//     is checked, and the references are released at once: the worker can still write to these
//     segments. Bytes that a frame names several times are copied once. Results are copied into
//     a segment of the domain that [SetupShared].Results names, and the state of a session into
//     one of the worker's own domain. Such copies take at most half of the arena. Beyond that,
//     and if no domain is named, they are in the memory of the process.
//
// # Begun count
//
// A call is begun when the worker hands it to node code. If setup asks for it, the worker
// writes 1 into the autopsy file, a uint64, and adds 1 each time that it begins a call,
// open, finish or snapshot frame, in the order of their arrival. From the count, the
// supervisor determines which calls a dead worker had begun. The count is the word of the
// worker: a call that must not be repeated counts as begun once it was written to the
// socket, whatever the count is.
//
// # Polling
//
// To sleep and be woken takes longer than a small call. So a lone caller of a quick node polls
// the socket before it blocks, and a worker that has answered a call may poll, too, if setup
// allows it: for at most 60 µs, as long as the next call nearly always comes in that time. A
// word in shared memory that the other side changes would be seen sooner than a readable
// socket, by less than one percent of a call. Each side would then have to write and read
// memory that the other one controls, so there is none.
//
// # Heartbeat
//
// A worker that does not answer may be unable to run Python code, because C code holds
// the GIL. To show that it can run Python code, it keeps a pipe whose inode number it
// writes behind the begun count, a uint64; 0 means no pipe. The supervisor writes two
// bytes other than "q" into the pipe. The worker reads both, and Python code reads the
// second one.
//
// # Bounds of what a worker says
//
// The supervisor checks each number and each length that a worker states. A description
// or hello beyond these bounds fails the start of the worker as a violation of the
// protocol; fields of records and progress messages are brought within them.
//
//	message      field                            bound
//	hello        pid                              0 to 2²²
//	hello        package, python, implementation  1 KiB
//	description  batch, concurrency               0 to 4096
//	description  max_wait                         0 to 60 s
//	description  line                             0 to 2³¹ - 1
//	description  params, inputs                   1024 each
//	description  name, kind, node_kind, python,   1 KiB
//	             package, names of parameters
//	description  file, returns, annotations,      8 KiB
//	             defaults
//	description  doc                              64 KiB
//	description  output, schema                   64 KiB and 64 levels each, 1 MiB of all
//	log          level                            a known one, else info
//	log          logger                           cut at 1 KiB
//	log          message                          cut at 257 KiB
//	log          fields                           left out beyond 1 MiB for the record
//	progress     fraction                         0 to 1; nil for NaN
//	progress     message                          cut at 8 KiB
//	error        class, relation                  cut at 1 KiB
//	error        message, notes, text, path,      cut at 257 KiB each
//	             hint, stage, kind
//	error        notes, frames, cause             at most 50, 101, 64
//	error        file, function, source           cut at 8 KiB
//	error        retry_after                      0 or more; the retry waits a minute at most
//
// # Limits and isolation
//
// If setup bounds a result, the worker checks the size of each value that a call returns,
// body and buffers, before it sends the value. For a larger one it sends an error of kind
// marshaling with the size as oversize. A snapshot is not a result. The supervisor neither
// keeps nor maps a larger result; it only reports the size. If setup bounds the
// memory or the descriptors of the process, the worker asks its operating system to
// enforce that.
//
// A worker may run with fewer rights than its user has. The kernel refuses what exceeds
// them, regardless of what the worker does with the protocol. Setup describes the sandbox
// only so that the errors of a node can name what refused an operation.
//
// # Memory of decoded values
//
// One byte of msgpack can stand for a hundred bytes of memory. So a decoder counts what a
// value takes, and refuses it beyond [Limits].Decoded. The count is not less than what Go
// and Python use, in bytes; data in buffers is not counted:
//
//	32   each value, with its place in an array or a map
//	32   more for a str or bin, and the number of its bytes
//	64   more for an array or an empty map
//	320  more for any other map, and for each of its keys 64 and the number of its bytes
//	256  more for an extension, and the number of its bytes
//
// # The trust boundary
//
// Everything that arrives from a worker is an attacker's until it is checked. A resource
// that a worker makes the host spend is bounded, charged to that worker, and never spent
// under a lock that another worker's call needs. In particular, no lock is held, except for
// those that only this worker's calls need, while the host waits for a worker.
//
// A frame that exceeds a bound ends the connection with a *[ProtocolError]; a value that
// does is an invalid result of its call only, a *[ValueError]. The host compares each number
// with its bound before it uses the number. These are all numbers that a worker can send:
//
//	number                          bound
//	header: magic, version, flags   exactly 0x47, 1, 0; a result or an error may have the flag 1
//	time of a call                  any; only shown, as at most the time that the supervisor measured
//	header: frame type              one of those that workers send
//	header: session                 0
//	header: call id                 a result, error or item: an open call that has been sent, or an
//	                                abandoned one; ignored in other frames
//	header: body length             values: [Limits].Body; pong: 0; other messages: 16 MiB
//	header: number of buffers       values: [Limits].Buffers; messages: 0
//	descriptor: segment             inline, one that the worker is lent at that moment, or one of
//	                                its own whose descriptor has arrived
//	descriptor: reserved            0
//	descriptor: offset, length      inside the segment, without overflow; inline: offset 0; all
//	                                lengths of a frame together: [Limits].BufferBytes; the inline
//	                                ones: [SetupLimits].Inline, or [SetupShared].Limit if that is
//	                                not set, but at least 64 MiB. A claim allocates at most 64 MiB
//	                                before its bytes arrive
//	results of open calls           one for each call: a body and inline buffers, until the caller
//	                                lets it go
//	size of a result or an item     [SetupLimits].Result, if set; beyond, it is neither kept nor mapped
//	loans after their calls         a quarter of [SetupShared].Limit, and one value more; further
//	                                inputs go inline
//	items without credit            [Setup].Window: fewer than Items, and at most Bytes before the last
//	result of a call with items     nil
//	transfer: segment               bit 31 set, and not in use
//	transfer: size                  that of the file; [SetupShared].Limit less the worker's others
//	transfer: file                  a memfd that is not of huge pages, sealed as the section on
//	                                shared memory says
//	transfer: descriptors           one for a message
//	connection: descriptors         none; the kernel refuses them, since Linux 6.16
//	segments of a worker            a 64th of half of this process's descriptors, from 8 to 128;
//	                                those of all workers together: half of them, and 32,768
//	release: entries                no bound of their own, since each releases at least one reference
//	release: segment, count         one that the worker is lent; from 1 to what it holds
//	forget: entries                 no bound of their own, since each is of one segment
//	forget: segment                 one of its own that the host maps, or whose descriptor has arrived
//	msgpack: lengths and counts     the bytes that follow
//	msgpack: nesting                values: [Limits].Depth; messages: 256
//	msgpack: decoded memory         values: [Limits].Decoded; messages: 32 MiB
//	timestamp                       the years 1 to 9999; below 10⁹ nanoseconds
//	tensor: dimensions, shape       64; the product is the length of the data, without overflow
//	audio: rate, channels           from 1 to 2³¹-1; the samples are whole frames
//	image: width, height            2²⁰; the product is the length of the data
//	table: stream                   not read here; the package runner/arrow, and nodes, check all of
//	                                it, and [Payload.View] copies it before
//	hello: protocol                 1
//	hello: pid                      from 0 to 2²²; the kernel names the peer's pid to [Dial]
//	ready: concurrency, batch       from 0 to [MaxAtOnce]
//	ready: max_wait                 from 0 to [MaxBatchWait]
//	ready: line                     from 0 to 2³¹-1; only shown
//	ready: params, inputs           at most [MaxParameters] of each
//	ready: members                  as many as setup has, at most [MaxMembers], without members
//	ready: output, schema           [MaxSchema] and [MaxSchemaDepth] each, [MaxSchemas] of all
//	progress: member                one that setup has, else the first
//	progress: fraction              brought between 0 and 1; NaN becomes nil
//	progress: calls                 0 to 4096 ids of calls that were sent; those that are not open
//	                                any more have no use for it
//	log: time                       any; not used
//	log: call                       any; only shown in the record
//	log: member                     one that setup has, else the first
//	error: member                   one that setup has, else the first
//	error: line, oversize,          any; only shown
//	  exit_code
//	error: cause                    64 causes
//	handshake line                  five fields, the third of which is unix; cut at 8 KiB
//	standard output, standard error lines of 8 KiB; an error has the last 4 KiB
//	autopsy file: exit report       256 KiB of it, and 100 frames; a source line in the first
//	                                1 MiB of a file that the worker may read
//	autopsy file: begun count       any; compared with the order of the calls
//	autopsy file: running member    one that setup has, else none; its start is in the call's time
//	autopsy file: heartbeat pipe    the inode of a pipe that the worker has open
//	error: bases                    the first [MaxBases], each cut at 1 KiB; only compared with names
//	error: retry_after              from 0 to the longest Duration: [RemoteError.RetryAfter]
//	template: a message             64 KiB
//	template: pid of a worker       a child of the template, which the kernel confirms
//	template: status, times, memory any; only shown
//	the process: name, memory, times from the kernel, which counts them; the name is not used
//
// A descriptor that a worker sends may be of any file. The last close of a file may block,
// and a file system of the worker's may never answer. So nothing but its seals is read from
// a descriptor that is not a memfd, and it is closed on a goroutine of its own, as are the
// sockets in which further descriptors may wait.
//
// A test compares this table with the constants and with the fields of the messages. The rate
// of frames is not bounded. A worker that sends log records all the time occupies
// the goroutine that reads its own connection, and no other.
package ipc
