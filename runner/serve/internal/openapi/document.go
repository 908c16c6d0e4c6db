// Package openapi describes a service as an OpenAPI 3.1 document, with the schemas of its nodes,
// and has the page that shows it.
package openapi

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// Service is what a document describes.
type Service struct {
	// Version is that of the program.
	Version   string
	Pipelines []Pipeline
	// Problems are the types of errors.
	Problems []Problem
	// HasTokens says that requests need a token.
	HasTokens bool
	// HasJobs says that runs can be jobs.
	HasJobs bool
	// Read are the content types of bodies with files, and Written those of answers.
	Read, Written []string
}

// Pipeline is one pipeline of a service.
type Pipeline struct {
	Name, Description string
	Nodes             []Node // those that have a description of their code
	// Sources take the input of a run, and Sinks return its result.
	Sources, Sinks []string
	// Many says that a run returns a list of values for each sink.
	Many bool
}

// Node is one node of a pipeline.
type Node struct {
	ID string
	// Ports are the names of the inputs if a call has a map of them.
	Ports []string
	ipc.Description
}

// Problem is a type of errors.
type Problem struct {
	Name, Title string
	Status      int
	// Waits says that the answer names the time to wait.
	Waits bool
}

// object is an object of a document.
type object = map[string]any

// The content types of the service itself.
const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	typeLines   = "application/x-ndjson"
	typeEvents  = "text/event-stream"
	typeForm    = "multipart/form-data"
)

// serviceTag is the tag of the resources that are not those of a pipeline. No pipeline has a name
// with a space.
const serviceTag = "the service"

// builder makes one document.
type builder struct {
	service *Service
	schemas object // the components
	paths   object
}

// Document returns the document of a service.
func Document(s *Service) map[string]any {
	b := &builder{service: s, schemas: baseSchemas(), paths: object{}}
	b.addCommonPaths()
	for i := range s.Pipelines {
		b.addPipeline(&s.Pipelines[i])
	}
	components := object{"schemas": b.schemas, "responses": b.problemResponses(), "headers": commonHeaders(), "parameters": commonParameters()}
	doc := object{
		"openapi": "3.1.1",
		"info": object{
			"title": "gophersnake", "version": cmp.Or(s.Version, "0"),
			"description": "Pipelines over HTTP. Each pipeline, and each of its nodes, is one path. " +
				"Errors are problem documents, as in RFC 9457.",
		},
		"paths": b.paths, "components": components, "tags": b.tags(),
	}
	if s.HasTokens {
		components["securitySchemes"] = object{"token": object{"type": "http", "scheme": "bearer", "description": "One of the service's tokens."}}
		doc["security"] = []any{object{"token": []any{}}}
	}
	return doc
}

func (b *builder) tags() []any {
	var tags []any
	for _, p := range b.service.Pipelines {
		tags = append(tags, object{"name": p.Name, "description": p.Description})
	}
	return append(tags, object{"name": serviceTag, "description": "Health and descriptions."})
}

// operation returns an operation with a name for tools, made of the given parts.
func operation(tag, summary, description string, responses object, id ...string) object {
	op := object{"tags": []any{tag}, "summary": summary, "operationId": componentName(id...), "responses": responses}
	if description != "" {
		op["description"] = description
	}
	return op
}

// addCommonPaths adds the resources that each service has.
func (b *builder) addCommonPaths() {
	health := func(path, summary string, hasProbe bool) {
		responses := b.responses(answer("The answer is yes.", object{typeJSON: media(ref("schemas", "Health"))}))
		if hasProbe {
			responses["503"] = answer("The answer is no.", object{typeJSON: media(ref("schemas", "Health"))})
		}
		op := operation(serviceTag, summary, "", responses, "get", path)
		if path == "/livez" || path == "/readyz" {
			op["security"] = []any{} // a probe needs no token
			delete(responses, "401")
		}
		b.paths[path] = object{"get": op}
	}
	health("/livez", "Is the process alive?", false)
	health("/readyz", "Would calls be served?", true)
	health("/healthz", "How are the workers?", true)
	for _, p := range b.service.Pipelines {
		health("/readyz/"+p.Name, "Would calls of "+p.Name+" be served?", true)
	}
	get := func(path, summary, contentType string, schema any) {
		b.paths[path] = object{"get": operation(serviceTag, summary, "", b.responses(answer("The answer.", object{contentType: media(schema)})), "get", path)}
	}
	get("/metrics", "Metrics for Prometheus", "text/plain", object{"type": "string"})
	get("/openapi.json", "This document", typeJSON, object{"type": "object"})
	get("/v1/pipelines", "List the pipelines", typeJSON, ref("schemas", "Pipelines"))
	b.addStatusPath()
	if b.service.HasJobs {
		b.addJobPaths()
	}
}

// addPipeline adds the paths of a pipeline and of its nodes.
func (b *builder) addPipeline(p *Pipeline) {
	path := "/v1/pipelines/" + p.Name
	describe := operation(p.Name, "Describe "+p.Name, "", b.responses(answer("The nodes with their schemas, and their connections.",
		object{typeJSON: media(ref("schemas", "Description"))}), 500, 503), "describe", p.Name)
	in, out := b.inputOf(p), b.outputOf(p)
	run := b.call(p.Name, "Run "+p.Name, p.Description, in, out, "run", p.Name)
	if b.service.HasJobs {
		b.allowJob(run)
	}
	b.paths[path] = object{"get": describe, "post": run}
	b.addControlPaths(p)
	b.paths[path+"/stream"] = object{"get": b.socket(p.Name, p.Name, "stream", p.Name)}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		in, out := b.nodeInput(p, n), b.nodeOutput(p, n, n.Many || n.Stateful)
		op := b.call(p.Name, "Call the node "+n.ID, n.Doc, in, out, "call", p.Name, n.ID)
		b.paths[path+"/nodes/"+n.ID] = object{"post": op}
		b.paths[path+"/nodes/"+n.ID+"/stream"] = object{"get": b.socket(p.Name, "the node "+n.ID, "stream", p.Name, n.ID)}
	}
}

// callStatuses are the statuses of problems of a call, besides those of every request.
var callStatuses = []int{400, 406, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504}

// call returns the operation that posts an input.
func (b *builder) call(tag, summary, description string, in input, out output, id ...string) object {
	content := out.content(b.service.Written)
	record := object{"type": "object", "properties": object{"node": object{"type": "string"}, "result": out.item, "error": ref("schemas", "Problem")}}
	content[typeLines] = object{"schema": object{"type": "string", "description": "A record in each line.", "x-item-schema": record}}
	content[typeEvents] = object{"schema": object{"type": "string", "description": "Events: result and error, with a record each, and end.", "x-item-schema": record}}
	ok := answer("The result.", content)
	ok["headers"] = object{"X-Request-Id": ref("headers", "X-Request-Id"), "Idempotency-Replayed": ref("headers", "Idempotency-Replayed")}
	op := operation(tag, summary, description, b.responses(ok, callStatuses...), id...)
	body := object{"content": b.bodies(in), "required": !in.optional}
	op["requestBody"] = body
	op["parameters"] = []any{ref("parameters", "X-Request-Timeout"), ref("parameters", "Idempotency-Key"), ref("parameters", "X-Request-Id")}
	return op
}

// socket returns the operation that opens a WebSocket to a pipeline or a node.
func (b *builder) socket(tag, to string, id ...string) object {
	op := operation(tag, "Open a WebSocket to "+to,
		"A stream of inputs and results over one connection, with binary frames for live audio; the guide serve-websocket.md describes the frames. "+
			"A request that opens no WebSocket gets status 426.",
		b.responses(nil, 400, 406, 415, 426, 500, 502, 503), id...)
	op["responses"].(object)["101"] = object{"description": "The WebSocket is open."}
	parameter := func(name, description string, schema object) any {
		return object{"name": name, "in": "query", "description": description, "schema": schema}
	}
	types := slices.Sorted(slices.Values(append(slices.Clone(b.service.Read), "audio/pcm")))
	op["parameters"] = []any{
		parameter("input", "The type of binary frames.", object{"type": "string", "enum": types, "default": "application/octet-stream"}),
		parameter("rate", "Of audio/pcm, which needs it: samples per second.", object{"type": "integer", "minimum": 1, "maximum": int64(1)<<32 - 1}),
		parameter("channels", "Of audio/pcm.", object{"type": "integer", "minimum": 1, "maximum": 65535, "default": 1}),
		parameter("format", "Of audio/pcm.", object{"type": "string", "enum": []string{"s16le", "f32le"}, "default": "s16le"}),
		parameter("output", "The type of results that are binary frames.", object{"type": "string", "enum": slices.Sorted(slices.Values(append(slices.Clone(b.service.Written), "audio/pcm")))}),
	}
	return op
}

func ref(kind, name string) object { return object{"$ref": "#/components/" + kind + "/" + name} }

func media(schema any) object { return object{"schema": schema} }

// answer returns a response with a body, and the header that every answer has.
func answer(description string, content object) object {
	return object{"description": description, "content": content, "headers": object{"X-Request-Id": ref("headers", "X-Request-Id")}}
}

// responses returns the responses of an operation: the one for success, if it is not nil, those of
// every request, and those with the given statuses.
func (b *builder) responses(ok object, statuses ...int) object {
	all := object{}
	if ok != nil {
		all["200"] = ok
	}
	statuses = append(slices.Clone(statuses), http.StatusForbidden)
	if b.service.HasTokens {
		statuses = append(statuses, http.StatusUnauthorized)
	}
	for _, status := range statuses {
		all[strconv.Itoa(status)] = ref("responses", responseName(status))
	}
	return all
}

func responseName(status int) string {
	return strings.ReplaceAll(http.StatusText(status), " ", "")
}

// problemResponses returns a response for each status, with the types of problems that have it.
func (b *builder) problemResponses() object {
	byStatus := make(map[int][]Problem)
	for _, p := range b.service.Problems {
		byStatus[p.Status] = append(byStatus[p.Status], p)
	}
	all := object{}
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		var types, titles []string
		examples := object{}
		headers := object{"X-Request-Id": ref("headers", "X-Request-Id")}
		for _, p := range byStatus[status] {
			types, titles = append(types, problemType(p)), append(titles, p.Title)
			examples[p.Name] = object{"value": object{"type": problemType(p), "title": p.Title, "status": status, "retryable": p.Waits}}
			if p.Waits {
				headers["Retry-After"] = ref("headers", "Retry-After")
			}
		}
		if status == http.StatusUnauthorized {
			headers["WWW-Authenticate"] = object{"schema": object{"type": "string"}}
		}
		schema := object{"allOf": []any{ref("schemas", "Problem"), object{"properties": object{
			"type": object{"enum": types}, "status": object{"const": status},
		}}}}
		all[responseName(status)] = object{
			"description": strings.ToUpper(titles[0][:1]) + strings.Join(titles, "; or ")[1:] + ".",
			"headers":     headers,
			"content":     object{typeProblem: object{"schema": schema, "examples": examples}},
		}
	}
	return all
}

func problemType(p Problem) string { return "urn:gophersnake:problem:" + p.Name }

func commonHeaders() object {
	header := func(description string, schema object) object {
		return object{"description": description, "schema": schema}
	}
	return object{
		"X-Request-Id":         header("That of the request, or a new one.", object{"type": "string", "minLength": 1, "maxLength": 128}),
		"Retry-After":          header("When to try again, in seconds.", object{"type": "integer", "minimum": 1}),
		"Idempotency-Replayed": header("The answer is that of an earlier request with the same key.", object{"type": "string", "const": "true"}),
	}
}

func commonParameters() object {
	parameter := func(name, description string, schema, example any) object {
		return object{"name": name, "in": "header", "description": description, "schema": schema, "example": example}
	}
	return object{
		"X-Request-Timeout": parameter("X-Request-Timeout", "The time for the request: seconds, or a time such as 500ms. Then it is canceled, and the status is 504.",
			object{"type": "string", "pattern": `^(0\.[0-9]{0,2}[1-9]|[1-9][0-9]{0,5}(\.[0-9]{1,3})?)(ms|s|m|h)?$`}, "30s"),
		"Idempotency-Key": parameter("Idempotency-Key", "A repeated request with the same key and body gets the first answer. Not for streams.",
			object{"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}, "3f1c0b9e"),
		"X-Request-Id": parameter("X-Request-Id", "A name for the request, in the answer and in the log. One that has more than 128 characters, or others than printable ones of ASCII, is replaced.",
			object{"type": "string"}, "order-17"),
	}
}

// componentName joins parts to a name for a component or an operation.
func componentName(parts ...string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, strings.Join(parts, "."))
	if strings.ContainsFunc(strings.Join(parts, ""), func(r rune) bool { return r > '~' }) {
		name += fmt.Sprintf("_%x", strings.Join(parts, ".")) // so that different names stay different
	}
	return name
}

//go:embed page
var files embed.FS

// Page has the files of the page that shows a document: index.html, docs.js and docs.css.
var Page, _ = fs.Sub(files, "page") // fails only for an invalid name
