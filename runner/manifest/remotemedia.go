package manifest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// dialectVersions are the versions of RemoteMedia's manifests. They differ in the names of
// some fields, and each name has one meaning, so all versions are read in the same way.
var dialectVersions = []string{Version, "1.0", "1.0.0", "1"}

// foreign is what a document says in RemoteMedia's fields and concerns other parts of it.
type foreign struct {
	name, description string
	pythonEnv         pythonEnv
	// timeout, if it is not 0, and retry, if it is not nil, are for nodes without their own.
	timeout time.Duration
	retry   *Retry
	// nodes and targets are the fields of each node that are given, and the target fields of
	// each connection.
	nodes   []map[string]element
	targets []string
}

// note adds a note about an element that has no effect.
func (d *decoder) note(e element, text string) {
	pos := e.position()
	d.notes = append(d.notes, Problem{File: d.file, Line: pos.Line, Column: pos.Column, Path: e.path, Message: text})
}

// optional returns a decodeFunc that takes null for a field that is left out, as RemoteMedia's
// serializers write it.
func (d *decoder) optional(decode decodeFunc) decodeFunc {
	return func(e element) {
		if e, ok := d.resolve(e); ok && e.node.ShortTag() != "!!null" {
			decode(e)
		}
	}
}

// noEffect returns a decodeFunc for a field that makes no difference, for the reason of the
// note. Its value may be any.
func (d *decoder) noEffect(reason string) decodeFunc {
	return func(e element) {
		d.value(e)
		d.note(e, "has no effect: "+reason)
	}
}

// unused returns a decodeFunc for a field that is only a description.
func (d *decoder) unused() decodeFunc { return func(e element) { d.value(e) } }

// refused returns a decodeFunc that rejects every value but an empty one.
func (d *decoder) refused(reason string) decodeFunc {
	return d.optional(func(e element) {
		if len(e.node.Content) > 0 || e.node.Kind == yaml.ScalarNode && e.node.Value != "" {
			d.reject(e, "%s", reason)
		}
	})
}

const notAManifest = "is a field of Pipeline.export_definition(), which is no manifest; write the pipeline with Pipeline.serialize()"

// foreignDocument returns RemoteMedia's fields of the document.
func (d *decoder) foreignDocument(p *Pipeline) fields {
	f := &d.foreign
	return fields{
		"name":         d.optional(d.text(&f.name)),
		"description":  d.optional(d.anyText(&f.description)),
		"config":       d.optional(d.runConfig),
		"defaults":     d.optional(d.noEffect("gophersnake has options of its command line instead")),
		"edges":        d.list(func(_ int, e element) { p.Connections = append(p.Connections, d.connection(e)) }),
		"python_env":   d.optional(d.pythonEnv(&f.pythonEnv)),
		"plugins":      d.refused("gophersnake loads no plugins, which are Rust libraries; write the node in Python or in Go"),
		"dependencies": d.refused(notAManifest),
	}
}

// runConfig decodes the settings of a whole pipeline. RemoteMedia's runtime reads none of
// them; those that gophersnake has hold for nodes that do not say otherwise.
func (d *decoder) runConfig(e element) {
	f := &d.foreign
	entries, _ := d.entries(e, "a map such as {timeout_ms: 30000}")
	for _, entry := range entries {
		d.positions[entry.value.path] = entry.value.position()
		switch entry.name {
		case "timeout_ms":
			d.milliseconds(&f.timeout)(entry.value)
			if f.timeout == 0 {
				d.problem(entry.value.path, "must be more than 0")
			}
		case "retry_policy":
			d.optional(d.retryPolicy)(entry.value)
		case "batch_size":
			var size int
			if d.integer(&size)(entry.value); size != 1 {
				d.problem(entry.value.path, "a node declares in its Python code how many calls it takes at once; write 1 or leave it out")
			}
		default:
			d.noEffect("it is a setting of RemoteMedia's own services")(entry.value)
		}
	}
}

// retryPolicy decodes the retry policy of a whole pipeline.
func (d *decoder) retryPolicy(e element) {
	r := DefaultRetry()
	r.Max = 0
	onTimeout := true
	d.object(e, "a map such as {max_retries: 3, backoff_ms: 100}", fields{
		"max_retries":      d.integer(&r.MaxAttempts),
		"backoff_ms":       d.milliseconds(&r.Base),
		"max_backoff_ms":   d.milliseconds(&r.Max),
		"retry_on_timeout": d.boolean(&onTimeout),
	})
	if r.Max == 0 {
		r.Max = defaultMax(DefaultRetry().Max, r.Base)
	}
	if !onTimeout {
		d.problem(e.path+".retry_on_timeout", "a call that timed out is retried like one whose interpreter ended in another way; leave it out, or write idempotent: false for a node whose calls must not run twice")
	}
	before := len(d.problems)
	if checkRetry(d.report, e.path, &r); len(d.problems) == before {
		d.foreign.retry = &r
	}
}

// milliseconds returns a decodeFunc for a number of milliseconds.
func (d *decoder) milliseconds(dst *time.Duration) decodeFunc {
	return func(e element) {
		var n int
		d.integer(&n)(e)
		if n < 0 {
			d.problem(e.path, "must not be negative")
			n = 0
		}
		*dst = time.Duration(n) * time.Millisecond
	}
}

// pythonEnv is the Python environment of a document or of a node.
type pythonEnv struct {
	version, scope string
	extra          []string
	at             element
}

var scopes = []string{"global", "per_pipeline", "per_node"}

// pythonEnv returns a decodeFunc for a Python environment. Environments that have the same
// interpreter and requirements are shared, so their scope makes no difference.
func (d *decoder) pythonEnv(dst *pythonEnv) decodeFunc {
	return func(e element) {
		dst.at = e
		given := d.object(e, `a map such as {python_version: "3.11", extra_deps: [numpy]}`, fields{
			"python_version": d.optional(d.pythonVersion(&dst.version)),
			"scope":          d.optional(d.text(&dst.scope)),
			"extra_deps":     d.optional(d.texts(&dst.extra)),
		})
		if at, ok := given["scope"]; ok && dst.scope != "" {
			if !slices.Contains(scopes, dst.scope) {
				d.unknownName(at.path, dst.scope, scopes, "unknown scope %q", "; the scopes are "+strings.Join(scopes, ", "))
				return
			}
			d.note(at, "has no effect: nodes and pipelines share an environment if, and only if, they have the same interpreter and requirements")
		}
	}
}

// pythonVersion returns a decodeFunc for a version such as 3.11, also without quotes.
func (d *decoder) pythonVersion(dst *string) decodeFunc {
	return func(e element) {
		if e, ok := d.scalar(e, `a version such as "3.11"`); ok {
			*dst = e.node.Value
		}
	}
}

// foreignNode returns RemoteMedia's fields of a node, and a function that completes the node
// with the fields that are given.
func (d *decoder) foreignNode(n *Node) (known fields, complete func(given map[string]element)) {
	var deps []string
	var env pythonEnv
	known = fields{
		"nodeType":           d.text(&n.Type),
		"is_streaming":       d.optional(d.boolean(new(bool))), // the Python code determines it
		"isStreaming":        d.optional(d.boolean(new(bool))),
		"is_output_node":     d.optional(d.boolean(&n.Output)),
		"config":             d.values(&n.Params, &n.order),
		"executor":           d.optional(d.executor),
		"capabilities":       d.optional(d.capabilities),
		"media_capabilities": d.optional(d.noEffect("the formats are not compared; annotations of the Python code are")),
		"runtime_hint":       d.optional(d.runtimeHint),
		"execution":          d.optional(d.execution),
		"docker":             d.optional(d.docker(n)),
		"fast_path":          d.optional(d.boolean(new(bool))), // no call has the overhead that it saves
		"python_deps":        d.optional(d.texts(&deps)),
		"python_env":         d.optional(d.pythonEnv(&env)),
		"dependencies":       d.optional(d.texts(new([]string))), // the connections say the same
		"metadata":           d.optional(func(e element) { d.nodeMetadata(e, n) }),
		"description":        d.unused(),
		"comment":            d.unused(),
		"node_id":            d.refused(notAManifest),
	}
	return known, func(given map[string]element) {
		d.exclusive(given, "config", "params")
		d.exclusive(given, "nodeType", "node_type")
		d.exclusive(given, "docker", "container")
		for name, value := range n.dockerEnv {
			if n.Env == nil {
				n.Env = make(map[string]string)
			}
			n.Env[name] = value
		}
		n.dockerEnv = nil
		n.Requirements = slices.Concat(n.Requirements, env.extra, deps)
		if env.version != "" {
			d.exclusive(given, "python_env", "interpreter")
			n.Interpreter = env.version
		}
	}
}

// exclusive rejects a field of RemoteMedia's if gophersnake's field for the same is given, too.
func (d *decoder) exclusive(given map[string]element, field, same string) {
	at, both := given[field]
	if _, ok := given[same]; ok && both {
		d.problem(at.path, "cannot be combined with %s, which means the same", same)
	}
}

// nodeMetadata decodes the free map of a node, in which the dialect of version 1.0 asks for a
// container.
func (d *decoder) nodeMetadata(e element, n *Node) {
	entries, _ := d.entries(e, "a map")
	var used bool
	var config *element
	for _, entry := range entries {
		d.positions[entry.value.path] = entry.value.position()
		switch entry.name {
		case "use_docker":
			d.boolean(&used)(entry.value)
		case "docker_config":
			config = &entry.value
		default:
			d.value(entry.value)
		}
	}
	switch {
	case used && config != nil:
		d.docker(n)(*config)
	case used:
		d.problem(e.path+".use_docker", "needs docker_config with the image of the container: {base_image: python:3.12}")
	}
}

// executors are the executors of a node that gophersnake has. The code of a node determines
// whether it runs in a process of its own or in that of the host.
var executors = []string{"multiprocess", "python", "native", "auto"}

func (d *decoder) executor(e element) {
	var name string
	d.text(&name)(e)
	switch {
	case name == "docker":
		d.problem(e.path, "the fields of a node determine what runs it; name an image in docker, and leave it out")
	case name == "wasm":
		d.problem(e.path, "the fields of a node determine what runs it; write wasm: module.wasm, and leave it out")
	case name != "":
		if !slices.Contains(executors, name) {
			d.unknownName(e.path, name, executors, "unknown executor %q", "; the executors are "+strings.Join(executors, ", "))
		}
	}
}

func (d *decoder) runtimeHint(e element) {
	var runtime string
	d.text(&runtime)(e)
	if runtime != "" && runtime != "auto" && runtime != "cpython" {
		d.problem(e.path, "gophersnake runs nodes on CPython, not on %q; write cpython or leave it out", shorten(runtime))
	}
}

// placements are the placements of a v1 node that mean, or allow, this machine.
var placements = []string{"", "auto", "local", "prefer_local", "prefer_remote"}

// execution decodes the placement of a v1 node.
func (d *decoder) execution(e element) {
	var placement string
	given := d.object(e, "a map such as {placement: local}", fields{
		"placement": d.anyText(&placement),
		"reason":    d.optional(d.anyText(new(string))),
		"fallback":  d.optional(d.noEffect("the node runs on this machine, so that it needs none")),
	})
	if !slices.Contains(placements, placement) {
		d.problem(given["placement"].path, "gophersnake runs nodes on this machine, not %q; write local or leave it out", shorten(placement))
	}
}

// metadataRefusals are keys of the document's metadata that must not be true.
var metadataRefusals = map[string]string{
	"auto_negotiate":      "gophersnake inserts no nodes that convert media between others; add a node that converts, and write false or leave it out",
	"strict_capabilities": "gophersnake does not compare the media_capabilities of nodes; write false or leave it out",
}

// metadata returns a decodeFunc for the free map of a document, which notes the positions of
// its keys.
func (d *decoder) metadata(dst *map[string]any) decodeFunc {
	return func(e element) {
		d.values(dst, nil)(e)
		if at, ok := d.resolve(e); ok && at.node.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(at.node.Content); i += 2 {
				value := at.key(at.node.Content[i].Value, at.node.Content[i+1])
				d.positions[value.path] = value.position()
			}
		}
	}
}

// checkMetadata rejects what RemoteMedia's metadata asks for and gophersnake does not have.
func (p *Pipeline) checkMetadata(r *report) {
	for _, key := range slices.Sorted(maps.Keys(metadataRefusals)) {
		if on, _ := p.Metadata[key].(bool); on {
			r.problem("metadata."+key, "%s", metadataRefusals[key])
		}
	}
}

// foreignConnection returns RemoteMedia's fields of a connection, and a function that
// completes the connection with the fields that are given.
func (d *decoder) foreignConnection(c *Connection) (known fields, complete func(given map[string]element)) {
	var fromPort, toPort, target string
	known = fields{
		"source":    d.text(&c.From),
		"target":    d.text(&c.To),
		"from_port": d.optional(d.anyText(&fromPort)),
		"to_port":   d.optional(d.anyText(&toPort)),
		"field_mapping": d.optional(func(e element) {
			d.object(e, "a map such as {source_field: output, target_field: input}", fields{
				"source_field": d.noEffect("a node has one output"),
				"target_field": d.text(&target),
			})
		}),
		"params":    d.optional(d.noEffect("a connection passes on every value; the program says how long the queues of a stream are")),
		"from_node": d.refused(notAManifest),
		"to_node":   d.refused(notAManifest),
	}
	for _, name := range []string{"channel_name", "type", "description", "comment"} {
		known[name] = d.unused()
	}
	return known, func(given map[string]element) {
		d.exclusive(given, "source", "from")
		d.exclusive(given, "target", "to")
		if fromPort != "" && fromPort != defaultPort {
			d.problem(given["from_port"].path, "a node has one output, so that it has no port %q; write default or leave it out", shorten(fromPort))
		}
		switch {
		case toPort == "" || toPort == defaultPort:
		case c.Port != "" && c.Port != toPort:
			d.problem(given["to_port"].path, `is not %q, the port in "to"`, shorten(c.Port))
		default:
			c.Port = toPort
		}
		d.foreign.targets = append(d.foreign.targets, target)
	}
}

// defaultPort is the name of the port of a connection that needs none.
const defaultPort = "default"

// completePipeline moves what the document says in RemoteMedia's fields to the parts of the
// pipeline that it concerns.
func (d *decoder) completePipeline(p *Pipeline, given map[string]element) {
	f := &d.foreign
	d.exclusive(given, "edges", "connections")
	for name, text := range map[string]string{"name": f.name, "description": f.description} {
		if _, ok := p.Metadata[name]; !ok && text != "" {
			if p.Metadata == nil {
				p.Metadata = make(map[string]any)
			}
			p.Metadata[name] = text
		}
	}
	p.Requirements = append(p.Requirements, f.pythonEnv.extra...)
	if f.pythonEnv.version != "" {
		if p.Interpreter != "" {
			d.problem(f.pythonEnv.at.path, "python_version cannot be combined with interpreter, which means the same")
		}
		p.Interpreter = f.pythonEnv.version
	}
	for i := range p.Nodes {
		if _, own := f.nodes[i]["timeout"]; !own && f.timeout > 0 {
			p.Nodes[i].Timeout = f.timeout
		}
		if p.Nodes[i].Retry == nil && f.retry != nil {
			shared := *f.retry
			p.Nodes[i].Retry = &shared
		}
	}
	d.mapTargets(p)
}

// mapTargets makes the target fields of edges the ports of nodes that several edges with
// different ones lead to. A node with one input needs no port.
func (d *decoder) mapTargets(p *Pipeline) {
	different := make(map[string]map[string]bool)
	for i, c := range p.Connections {
		if target := d.foreign.targets[i]; target != "" {
			if different[c.To] == nil {
				different[c.To] = make(map[string]bool)
			}
			different[c.To][target] = true
		}
	}
	for i := range p.Connections {
		if c := &p.Connections[i]; c.Port == "" && len(different[c.To]) > 1 {
			c.Port = d.foreign.targets[i]
		}
	}
}
