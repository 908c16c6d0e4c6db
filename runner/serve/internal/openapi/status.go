package openapi

import (
	"maps"
	"math"
)

// addStatusPath adds the status of the service.
func (b *builder) addStatusPath() {
	maps.Copy(b.schemas, statusSchemas())
	record := object{"type": "object", "properties": object{"error": ref("schemas", "Problem")}}
	content := object{
		typeJSON:   media(ref("schemas", "Status")),
		typeLines:  object{"schema": object{"type": "string", "description": "A status in each line, or the problem that ends the stream.", "x-item-schema": object{"anyOf": []any{ref("schemas", "Status"), record}}}},
		typeEvents: object{"schema": object{"type": "string", "description": "Events: status, or error and end.", "x-item-schema": ref("schemas", "Status")}},
	}
	b.paths["/v1/status"] = object{"get": operation(serviceTag, "The state of all nodes and workers",
		"As a stream, it comes each second and soon after a change. The members that a client gets depend on its rights.",
		b.responses(answer("The status.", content), 400, 408, 503), "get", "/v1/status")}
}

// addControlPaths adds the logs of a pipeline and of its nodes, and what renews their workers.
func (b *builder) addControlPaths(p *Pipeline) {
	path := "/v1/pipelines/" + p.Name
	b.paths[path+"/logs"] = object{"get": b.logs(p.Name, "The last records that belong to no node", "logs", p.Name)}
	b.paths[path+"/reload"] = object{"post": b.renewal(p.Name, "Reload the code of "+p.Name, "reload", p.Name)}
	for _, n := range p.Nodes {
		at := path + "/nodes/" + n.ID
		b.paths[at+"/logs"] = object{"get": b.logs(p.Name, "The last records of the node "+n.ID, "logs", p.Name, n.ID)}
		b.paths[at+"/restart"] = object{"post": b.renewal(p.Name, "New workers for the node "+n.ID, "restart", p.Name, n.ID)}
	}
}

func (b *builder) logs(tag, summary string, id ...string) object {
	op := operation(tag, summary, "It takes the right to see the log.",
		b.responses(answer("The records, oldest first.", object{typeJSON: media(ref("schemas", "Records"))}), 400), id...)
	op["parameters"] = []any{object{
		"name": "after", "in": "query", "description": "The number of the last record that the client has.",
		"schema": object{"type": "integer", "minimum": 0, "maximum": uint64(math.MaxUint64)},
	}}
	return op
}

// renewal returns an operation of clients that may administer the service.
func (b *builder) renewal(tag, summary string, id ...string) object {
	return operation(tag, summary, "It takes the right to administer the service.",
		b.responses(answer("The nodes that have new workers.", object{typeJSON: media(object{"type": "object"})}), callStatuses...), id...)
}

// statusSchemas returns the schemas of the status and of logs.
func statusSchemas() object {
	text, flag, number := object{"type": "string"}, object{"type": "boolean"}, object{"type": "integer"}
	list := func(of any) object { return object{"type": "array", "items": of} }
	required := func(names []string, properties object) object {
		return object{"type": "object", "required": names, "properties": properties}
	}
	worker := required([]string{"pid", "role", "load", "calls", "age", "cpu"}, object{"pid": number, "role": text, "load": number, "calls": number, "resident": number})
	failure := required([]string{"kind", "text"}, object{"time": text, "kind": text, "text": text, "report": text})
	node := required([]string{"node", "ready", "state", "type", "kind", "consecutive_failures", "calls", "retries", "canceled"}, object{
		"node": text, "ready": flag, "state": text, "reason": text, "type": text, "kind": text, "consecutive_failures": number,
		"calls": number, "retries": number, "canceled": number, "last_log": number, "last_error": failure, "last_death": failure,
		"pool":   object{"type": "object", "properties": object{"min": number, "max": number, "generation": number, "workers": list(worker)}},
		"recent": object{"type": "object", "description": "The calls of the last minute; times are in seconds."},
	})
	pipeline := required([]string{"name", "ready", "state", "sources", "sinks", "connections", "nodes"}, object{
		"name": text, "description": text, "ready": flag, "state": text, "reason": text,
		"sources": list(text), "sinks": list(text), "nodes": list(node), "last_log": number,
	})
	return object{
		"Status": required([]string{"time", "ready", "may", "pipelines"}, object{
			"time": object{"type": "string", "format": "date-time"}, "ready": flag, "draining": flag,
			"may":       required([]string{"admin", "logs", "details", "session"}, object{"admin": flag, "logs": flag, "details": flag, "session": flag}),
			"pipelines": list(pipeline),
		}),
		"Records": required([]string{"records"}, object{"records": list(object{"type": "object", "properties": object{"time": text, "level": text, "text": text}})}),
	}
}
