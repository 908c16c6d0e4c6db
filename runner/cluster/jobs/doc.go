// Package jobs queues runs of pipelines that outlive the process that asked for them, on NATS
// JetStream. [Open] opens the jobs of a connection; [Store.Submit] queues a job, which is then in
// a stream on the disks of the NATS servers; machines that call [Serve] take jobs, run them, and
// store the results; [Store.Wait] and [Store.Result] return them.
//
// # Streams and buckets
//
// Each pipeline has a work-queue stream with one subject for each job, so that the server itself
// refuses a job that is queued already. A machine takes a job only for a worker that is free, or
// is about to be, and the job stays in the stream until its outcome is stored. The state of a job
// that has begun is a record in a key-value bucket:
//
//	record  │ the job
//	none    │ is queued, if its message is in the stream
//	queued  │ was given back, and waits for another attempt
//	running │ has begun on a machine
//	done, failed, canceled │ has ended; the record has the result or the error
//
// Every change of a record is a compare-and-set. A machine that was believed dead cannot store
// its result after another machine has begun the job, so each job has one result.
//
// # When a machine dies
//
// While a job runs, its machine says so to the server. If it is silent for [Config.AckWait], the
// server gives the job to another machine. That one asks the machine of the record whether it
// still has the job, and leaves it alone if so. Otherwise it begins the job again. A job of a
// pipeline with a node that is not idempotent is never begun twice: it fails, and
// [Job.MayHaveRun] says so. A job whose machines died [Config.Begins] times fails, too.
//
// # Errors and dead letters
//
// The policies of the nodes retry calls, as in any run. A run that fails nevertheless is made
// again only if [WithAttempts] allows it, and the error is retryable. After that the job is
// failed, and its input and its whole error are a message of the dead-letter stream, until
// [Store.Retry] queues it again.
//
// # Webhooks
//
// A machine with [WithWebhooks] posts the document of a job with [WithWebhook] when the job has
// ended. What is to be posted is a message of a stream that is published before the job leaves its
// queue; the record has how far it is.
//
// # Schedules
//
// [Store.AddSchedule] adds a schedule, which is an entry of the bucket. Each machine that serves the
// pipeline submits a job at each of its times. The id of the job has the time, so there is one.
//
// # How long jobs are kept
//
// A queued job has no age. Streams have limits, and a full one refuses jobs. Records, results
// and dead letters are kept for [Config.Retention] after the end of a job. For that time a job
// that is submitted again with the same id is the same job.
package jobs
