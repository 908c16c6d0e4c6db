package openapi

// allowJob says that a run can be a job.
func (b *builder) allowJob(run object) {
	accepted := answer("The run is a job, which the answer describes. That is so if the request prefers it.", object{typeJSON: media(ref("schemas", "Job"))})
	header := func(description string) object {
		return object{"description": description, "schema": object{"type": "string"}}
	}
	accepted["headers"] = object{
		"X-Request-Id": ref("headers", "X-Request-Id"), "Idempotency-Replayed": ref("headers", "Idempotency-Replayed"),
		"Location": header("The URL of the job."), "Preference-Applied": header("The preference for a job."),
	}
	run["responses"].(object)["202"] = accepted
	run["parameters"] = append(run["parameters"].([]any), object{
		"name": "X-Webhook", "in": "header", "schema": object{"type": "string", "format": "uri", "maxLength": 2000}, "example": "https://example.com/jobs",
		"description": "The URL to which the document of the job is posted when it has ended, signed as Standard Webhooks describes it. It is refused if no machine posts webhooks: they need a secret.",
	}, object{
		"name": "Prefer", "in": "header", "schema": object{"type": "string"}, "example": "respond-async",
		"description": "With respond-async, the run is a job, unless its input or its result is a stream. A job with an Idempotency-Key is queued once.",
	})
}

// addJobPaths adds the jobs of all pipelines.
func (b *builder) addJobPaths() {
	text, number := object{"type": "string"}, object{"type": "integer"}
	moment := object{"type": "string", "format": "date-time"}
	var names []any
	for _, p := range b.service.Pipelines {
		names = append(names, p.Name)
	}
	states := object{"type": "string", "enum": []any{"queued", "running", "done", "failed", "canceled"}}
	b.schemas["Job"] = object{
		"type": "object", "required": []string{"job", "pipeline", "id", "url", "state", "priority", "submitted", "begins", "failures"},
		"properties": object{
			"job": text, "pipeline": text, "id": text, "url": text, "state": states, "priority": text, "submitted": moment,
			"not_before": moment, "begun": moment, "ended": moment, "machine": text, "begins": number, "failures": number,
			"may_have_run": object{"type": "boolean", "description": "There is no result, but a node may have done its work."},
			"progress":     object{"type": "object", "properties": object{"fraction": object{"type": "number"}, "message": text, "node": text}},
			"error":        ref("schemas", "Problem"),
			"webhook": object{"type": "object", "required": []string{"url", "state", "attempts"}, "properties": object{
				"url": text, "state": object{"type": "string", "enum": []any{"pending", "failing", "delivered", "given-up"}}, "attempts": number,
				"error": text, "next": moment, "delivered": moment,
			}},
		},
	}
	b.schemas["Jobs"] = object{"type": "object", "required": []string{"jobs"}, "properties": object{
		"jobs": object{"type": "array", "items": ref("schemas", "Job")},
		"next": object{"type": "string", "description": "The parameter after of the next page; without it, there is none."},
	}}
	query := func(name, description string, schema object) any {
		return object{"name": name, "in": "query", "description": description, "schema": schema}
	}
	list := operation(serviceTag, "List jobs", "In the order of their pipelines and ids. A token has its own jobs, and one that may administer the service has all.",
		b.responses(answer("A page of jobs.", object{typeJSON: media(ref("schemas", "Jobs"))}), 400, 404, 500, 503, 504), "get", "/v1/jobs")
	list["parameters"] = []any{
		query("pipeline", "Only the jobs of this pipeline.", object{"type": "string", "enum": names}),
		query("state", "Only the jobs in this state.", states),
		query("limit", "The largest number of jobs.", object{"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
		query("after", "The member next of the last page.", text),
	}
	b.paths["/v1/jobs"] = object{"get": list}

	const path = "/v1/jobs/{pipeline}/{id}"
	job := func(summary, description string, content object, id string, statuses ...int) object {
		op := operation(serviceTag, summary, description, b.responses(answer("The answer.", content), append(statuses, 400, 404, 500, 503, 504)...), id, path)
		op["parameters"] = []any{
			object{"name": "pipeline", "in": "path", "required": true, "schema": object{"type": "string", "enum": names}},
			object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.~-]*$", "maxLength": 128}},
		}
		return op
	}
	one := object{typeJSON: media(ref("schemas", "Job"))}
	b.paths[path] = object{
		"get":    job("Show a job", "", one, "get"),
		"delete": job("Cancel a job", "A job that has ended cannot be canceled: status 409.", one, "cancel", 409),
	}
	result := object{typeJSON: media(object{})}
	addFiles(result, anyShape().kinds, b.service.Written)
	b.paths[path+"/result"] = object{"get": job("The result of a job",
		"As the answer to a call has it. If the job has failed, the answer is its problem; if it has no result yet, the status is 409.",
		result, "result", callStatuses...)}
	event := ref("schemas", "Job")
	b.paths[path+"/events"] = object{"get": job("Follow a job", "Its state now and after each change, until it has ended.", object{
		// Without a type, since some tools take it for that of an event, and others for that of the body.
		typeEvents: object{"schema": object{"description": "Events: job, and error or end.", "x-item-schema": event}},
		typeLines:  object{"schema": object{"type": "string", "description": "A job in each line, or the problem that ends the stream.", "x-item-schema": event}},
	}, "events", 406)}
}
