// Package ipc is the wire between the supervisor and a Python worker: frames,
// msgpack values, the messages of the protocol and the errors that cross it.
// It knows nothing of processes, pools or pipelines.
//
// # Connection
//
// A worker is started with three descriptors beside the standard three: 3 is the
// read end of the lifeline, a pipe whose write end the supervisor alone holds, 4
// is the autopsy file, whose first 8 bytes are for the count of begun calls, the
// next 8 for the pulse, and behind which the interpreter writes its last words, and
// 5, where memory is shared, is its end of the channel, a socket on which descriptors
// are handed over. The supervisor writes a secret of [SecretSize] random bytes into
// the lifeline; end of file there means that the supervisor is gone.
//
// The worker listens on a Unix socket in $PLUGIN_UNIX_SOCKET_DIR and announces
// it on its standard output with go-plugin's line
//
//	1|1|unix|/path/to/the/socket|msgpack
//
// The supervisor connects, checks the peer's uid and pid, and writes the
// secret. The worker checks the peer's uid and the secret, stops listening,
// removes the socket and its folder, and from there on both sides speak frames.
//
// # Frames
//
// All integers are little-endian.
//
//	offset size
//	0      1    magic, 0x47
//	1      1    protocol version, 1
//	2      1    type
//	3      1    flags, 0
//	4      4    length of the body in bytes
//	8      8    call id; 0 where the frame belongs to no call
//	16     4    number of buffers, n
//	20     4    session; 0 where the frame belongs to none
//	24     24·n buffer descriptors
//	…           the body: msgpack
//	…           the inline buffers, one after the other, in their order
//
// A buffer descriptor is
//
//	0      4    segment: 0 for bytes that follow inline; else a shared segment's id
//	4      4    reserved, 0
//	8      8    offset inside the segment; 0 for inline bytes
//	16     8    length in bytes
//
// # Shared memory
//
// A segment is a memfd whose size is sealed. Its owner, the supervisor or a worker,
// numbers it and sends its descriptor over the channel, once to each side that is to
// know it and before the first frame that names it, in a message of 12 bytes: the
// number (4) and the size (8). Numbers with bit 31 are the worker's own; without it
// they are the supervisor's, by which workers also know the segments of each other.
// A receiver maps nothing whose size is not sealed, or not as it was said to be.
//
// Each descriptor that names a segment is a mention. The receiver says in a release
// frame when it is over; a segment all of whose mentions are over is its owner's to
// use again, or to end, which a forget frame tells. From one worker to the next the
// supervisor passes the segment on, and neither reads nor copies it. When a worker
// dies, its mentions are over, and its own segments live on as long as they are
// named.
//
// Every length is checked against [Limits] before memory is taken for it, and
// beyond 64 MiB memory is taken only as the bytes come. What is said to be 0 is
// refused where it is not.
//
// # Messages
//
//	type              direction  body
//	 1 hello          ← worker   map: protocol, package, python, pid
//	 2 setup          → worker   map: see [Setup]
//	 3 ready          ← worker   map: see [Description]
//	 4 call           → worker   array of 2: positional values (array), named values (map)
//	 5 result         ← worker   one value
//	 6 error          ← worker   map: see [RemoteError]; call id 0 while setting up
//	 7 cancel         → worker   empty
//	 8 log            ← worker   map: see [LogRecord]
//	 9 progress       ← worker   map: see [Progress]
//	10 ping           → worker   empty
//	11 pong           ← worker   empty; echoes the ping's call id
//	12 shutdown       → worker   empty
//	13 release        both       array of [segment, count]: mentions that are over
//	14 forget         both       array of segments that are no more
//	15 item           ← worker   one value of a call that gives many
//	16 credit         → worker   uint: so many more items may be sent
//	17 open           → worker   array of at most 1: the state to restore
//	18 finish         → worker   empty
//	19 drop           → worker   empty; call id 0; not answered
//	20 snapshot       → worker   empty
//
// The worker opens with hello, the supervisor answers with setup, and the
// worker ends its set-up with ready or with error. Calls are pipelined: many
// may be under way on one connection, told apart by the call id. A call is
// answered by exactly one result or error, a cancelled one too. Because a
// synchronous node cannot read the socket while it works, cancel is followed by
// the signal SIGUSR1, which tells the worker to look at its mail.
//
// Where nodes take their calls one after the other, the worker answers them in
// their order. It may keep small answers back while further calls have arrived
// already, and send them together.
//
// # Many values
//
// A call of a node that gives many values, as ready says, is answered by any number
// of items and then a result of nil, or an error. Of the items of a call, no more
// than the setup's [Window] may be sent and not yet credited; the worker waits for
// credit with the next one. Credit for a call that has been answered means nothing.
//
// # Sessions
//
// A stateful node has a state of its own in each session. The supervisor numbers a
// session and opens it; its calls, snapshot and finish name it in their headers.
// Open, snapshot and finish are answered as calls are: open by nil, snapshot by the
// state, finish by items. After finish has been answered, and after drop, the
// session is over. An error in open leaves none; other errors leave it as it is.
//
// # What was begun
//
// Of a worker that died, the supervisor wants to know which calls it had come to.
// Where setup asks for it, the worker writes 1 into the count, and adds 1 each time
// that it begins a call, open, finish or snapshot frame, in the order in which they
// came and before any code of the node's runs. The count is a uint64.
//
// # The pulse
//
// A worker that does not answer may be unable to run any Python code: C code holds
// the GIL. To show that it can, it keeps a pipe, whose inode number it writes behind
// the count of begun calls, as a uint64; 0 is no pipe. Whoever writes two bytes into
// it, other than "q", sees them taken out, the second one by Python code.
//
// # Limits on a worker
//
// Where setup bounds a result, the worker looks at the size of each value that a
// call gives, its body and its buffers, before it sends it; one that is larger makes
// an error of kind marshaling, with its size as oversize. A session's state is no
// result. Where setup bounds the memory or the descriptors, it asks its system to.
//
// # Isolation
//
// A worker may have been started with less than its user may do. The kernel refuses
// what goes beyond, whatever the worker makes of the protocol; setup tells it of its
// bounds only so that the errors of its node can say what refused them something.
//
// # Values
//
// Values are msgpack: nil, bool, integers of 64 bits signed and unsigned,
// float64, str (UTF-8), bin, array, map with str keys, the timestamp extension
// (-1), in the years 1 to 9999, and these application extensions. Their payload
// is msgpack itself. Where a map has a key twice, the last one counts.
//
//	1 Tensor   array: dtype (str), shape (array of uint), data; C order, little-endian
//	2 Audio    array: rate in Hz (uint), channels (uint), data; float32, interleaved
//	3 Image    array: format (str), width, height (uint), pts in seconds (float or nil), data
//	4 Json     not msgpack but the UTF-8 text of a JSON document
//
// data is bin where it is small. Where it is nil, the bytes are the frame's
// next buffer: a decoder takes the frame's buffers one by one, in the order in
// which it meets such extensions. The body holds no buffer numbers, so encoded
// values can be put side by side, their buffers likewise, without being read.
// That is how a result goes on to the next node as it came.
//
// What cannot be carried is refused where it is encoded, with the path inside
// the value: integers beyond 64 bits, map keys that are not str, cycles, depth
// beyond [Limits].Depth, types that are not listed here. NaN and infinities are
// ordinary float64 values; in a Json document they are refused.
//
// The file testdata/vectors.json holds values and frames in their encoded form;
// the tests of both languages read it.
package ipc
