// Package serve answers HTTP requests with pipelines. [Handler] is an [http.Handler] that a
// program mounts in its own server; [Listen] opens a server of its own, with safe defaults, as
// the command gophersnake serve does.
//
//	handler := serve.Handler(map[string]*runner.Runner{"speech": r})
//	http.ListenAndServe("localhost:8000", handler)
//
// # Requests
//
//	POST /v1/pipelines/{name}             run a pipeline
//	POST /v1/pipelines/{name}/nodes/{id}  call one of its nodes
//	GET  /v1/pipelines                    the names of the pipelines
//	GET  /v1/pipelines/{name}             its nodes, with the schemas of their annotations
//	GET  /v1/pipelines/{name}/stream      a WebSocket; also that of a node, …/nodes/{id}/stream
//	GET  /openapi.json, /docs             all of this as an OpenAPI document, and as a page
//	GET  /livez, /readyz, /healthz        is it alive, is it ready, how is it
//	GET  /metrics                         for Prometheus
//	GET  /v1/status                       the state of all nodes and workers, also as a stream
//	GET  /v1/pipelines/{name}/logs        the last records of the log that belong to no node
//	GET  /v1/pipelines/{name}/nodes/{id}/logs      those of a node; see [WithMonitor]
//	POST /v1/pipelines/{name}/nodes/{id}/restart   new workers for a node; see [WithAdmin]
//	POST /v1/pipelines/{name}/reload               new code for all nodes
//	GET  /                                a page that shows the status; see [WithPage]
//
// The Content-Type of a request says how to read its body: JSON, text, a WAV file, an image, an
// NPY file, an Arrow stream, bytes, or multipart/form-data with a part for each port. A body
// of another type, such as the default of curl, is recognized by its content. [WithFormats]
// adds further types; package serve/tables has CSV, Parquet and Arrow files.
//
// Answers are JSON. An Accept header can ask for the file that holds a result (audio/wav,
// image/png, application/x-npy, application/octet-stream, text/plain), or for a stream, in
// which each value arrives as soon as the pipeline returns it (text/event-stream,
// application/x-ndjson). A request of type application/x-ndjson is a stream of inputs.
// A WebSocket is such a stream, too, whose binary frames are files or samples of audio;
// docs/serve-websocket.md describes it.
// A runner that was made with [runner.WithOrderedMaps] returns maps in the order of Python.
//
// If the client leaves, its run is canceled. The header X-Request-Timeout limits the time of a
// request, X-Request-Id names it, and with the same Idempotency-Key a request is processed once.
//
// [WithTracerProvider] makes spans of requests, whose headers traceparent and tracestate lead to
// the nodes, and [WithMetrics] adds histograms to /metrics.
//
// An error is a problem document as in RFC 9457; docs/serve-errors.md lists the statuses.
//
// [WithProtocol] adds another protocol, such as that of package serve/oip, the Open Inference
// Protocol.
package serve
