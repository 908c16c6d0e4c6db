// Package cluster serves pipelines to other machines, and calls them there, over NATS.
//
// [Connect] connects to NATS servers, or starts one in this process. [Serve] announces the
// pipelines of this process as NATS micro services, so that "nats micro ls", "stats" and
// "ping" see them. [Dial] returns a [Client] that calls a pipeline, or one of its nodes, and opens streams, as a
// [runner.Runner] of this process would: with the same values, deadlines, cancellation and
// errors.
//
// A program that embeds package runner, or package serve, does not compile NATS.
//
// # Which machine gets a call
//
// The client chooses. A queue group of NATS would choose at random, and knows neither workers
// nor how long calls take. A queue from which machines pull would add a round trip to each
// call, to an idle cluster's too. So each machine announces how many calls it takes at once
// (its slots) and how many it has, every 500 ms, when a slot becomes free after none was, and
// with each answer. Each machine has subjects of its own, and the client sends a call to the
// machine with the most free slots.
//
// What a client knows may be out of date, so the machine decides. It refuses a call if it has
// no free slot, at the cost of a round trip, and the client tries the next machine. Only if no
// machine has a free slot does the client let one of them queue the call: the one with the
// fewest calls for each slot. If a slot becomes free elsewhere, the client asks for its oldest
// queued calls back, and the machine returns those that it has not begun. A call keeps its age
// when it moves, and machines take the oldest call first, so that clients are served in turn.
//
// The slots of a node are the calls that its workers take at once, and those of a run are the
// slots of the node with the fewest. While the calls of a target take less than 2 ms, up to 64
// more may run ahead of free workers, because a worker would otherwise wait for the network
// between two calls. Calls that the process makes itself, for instance over HTTP, do not count.
//
// # When a machine, a client or a server ends
//
// A client asks a machine that has its calls and has been silent for 250 ms. If the machine's
// process has ended, NATS answers at once that nothing listens. A machine that does not answer
// for 3 s, because the network is cut, counts as lost, too. The calls of a lost machine move to
// another one, at most three times. A call with a node that is not idempotent fails instead,
// with an error that says that the call may have run. A call that the machine cannot have got
// moves in any case.
//
// A machine looks after its clients in the same way. It cancels the calls of a client that has
// ended, or has been silent for 5 s.
//
// If a server ends, clients and machines connect to another one, and messages may be lost. So
// each second a client asks the machines which of its longer calls they have. A call that is
// not known was lost on the way, or its answer was, and moves or fails as above.
//
// # Streams
//
// A stream is a call that stays: it takes a slot of one machine until it ends. Both sides number
// their frames, grant each other credit, and send frames again that were lost with a server. A
// slow consumer so stops the nodes, and these stop the producer; a window of items waits at each
// end of the connection.
//
// If the machine is lost, the stream continues on another one, unless a node is not idempotent or
// keeps a state that it cannot restore. If each sink returns one value for each item, the client
// keeps the items whose values have not arrived, and sends these again. Otherwise it asks for a
// checkpoint after 64 items or 4 MiB, and keeps the items since the last one; the machine lets
// the pipeline run empty for it, saves the states of the nodes, and sends them behind the values
// that belong to them. The new machine begins with these states, gets the items since then, and the
// client drops the values that it has already. Checkpoints travel to the client, not to a KV
// bucket: a stream ends with its client in any case, so that nothing is gained by storing them,
// and they need no JetStream.
//
// # Nodes elsewhere
//
// An [Executor] calls single nodes of a pipeline on the machines that the manifest's host names.
// The runner that has it decides about retries, so the machine makes one attempt, and each machine
// has a circuit breaker for the node. An attempt goes to a machine on which none has failed, if
// there is one. A large result that only nodes elsewhere take stays in the object store: the caller
// sends its name on, and deletes it when these have run.
//
// # Security and operation
//
// [Config] names the files of certificates, credentials and nkeys. The guide to clusters lists the
// least permissions of machines and callers. [Diagnose] says what a configuration lacks,
// [Machines] and [Roster] which machines there are, and [Machine.Metrics] and [Client.Metrics] what
// they do.
//
// # The protocol
//
// A call is a message of binary fields and the value in msgpack, as package ipc encodes it;
// errors are msgpack, announcements JSON. Calls that a client makes at about the same time of one
// machine, and their answers, are groups, which are one message; machines and clients say that they
// read these. Calls with headers are messages of their own. A value that is larger than the server's messages may
// be goes by a bucket of the object store: the message has its name, the receiver deletes it,
// and the bucket drops what is left after ten minutes. It needs JetStream on the servers.
// If the context of a call has [runner.WithProgress], the machine sends what the nodes report in
// frames ahead of the answer, at most ten a second of each node.
// Headers that the caller adds ([WithHeader]) are headers of the message.
package cluster
