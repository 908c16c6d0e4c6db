package manifest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A foreignRow is a field of RemoteMedia's manifests and what becomes of it. The parser says
// why a field has no effect or is refused, and its position.
type foreignRow struct {
	where, text string
	// done says what the field does; check then returns what it has changed, and want is that.
	done  string
	check func(p *Pipeline) any
	want  any
	// at is the path of the problem or the note.
	at string
}

func firstNode(get func(n *Node) any) func(*Pipeline) any {
	return func(p *Pipeline) any { return get(&p.Nodes[0]) }
}

func params(n *Node) any       { return n.Params }
func requirements(n *Node) any { return n.Requirements }
func interpreter(n *Node) any  { return n.Interpreter }
func isOutput(n *Node) any     { return n.Output }
func timeout(n *Node) any      { return n.Timeout }
func inContainer(n *Node) any {
	c := n.Container
	return fmt.Sprint(c.Image, " ", n.Env, " ", c.Memory, " ", c.CPUs, " ", c.SharedMemory, " ", c.Mounts)
}

func nothing(*Pipeline) any { return nil }

func metadata(key string) func(*Pipeline) any {
	return func(p *Pipeline) any { return p.Metadata[key] }
}

func ports(p *Pipeline) any {
	var all []string
	for _, c := range p.Connections {
		all = append(all, c.From+" > "+c.To+"."+c.Port)
	}
	return all
}

var foreignRows = []foreignRow{
	{where: "document", text: `version: "1.0"`, done: "the same as v1; so is 1.0.0", check: func(p *Pipeline) any { return p.Version }, want: "v1"},
	{where: "document", text: `name: shop`, done: "metadata.name, unless that is given", check: metadata("name"), want: "shop"},
	{where: "document", text: `description: sells`, done: "metadata.description, unless that is given", check: metadata("description"), want: "sells"},
	{where: "document", text: `metadata: {name: shop, created_at: "2026-01-01", author: me}`, done: "a free map, whose name appears in messages", check: metadata("author"), want: "me"},
	{where: "document", text: `metadata: {auto_negotiate: false}`, done: "no node is inserted", check: nothing},
	{where: "document", text: `metadata: {auto_negotiate: true}`, at: "metadata.auto_negotiate"},
	{where: "document", text: `metadata: {strict_capabilities: true}`, at: "metadata.strict_capabilities"},
	{where: "document", text: `edges: []`, done: "connections", check: func(p *Pipeline) any { return len(p.Connections) }, want: 0},
	{where: "document", text: `python_env: {python_version: "3.11"}`, done: "interpreter", check: func(p *Pipeline) any { return p.Interpreter }, want: "3.11"},
	{where: "document", text: `python_env: {extra_deps: [numpy]}`, done: "requirements of the pipeline", check: func(p *Pipeline) any { return p.Requirements }, want: []string{"numpy"}},
	{where: "document", text: `python_env: {scope: per_node}`, at: "python_env.scope"},
	{where: "document", text: `plugins: []`, done: "no plugin is loaded", check: nothing},
	{where: "document", text: `plugins: [{url: "https://example.org/p.tar", version: "1"}]`, at: "plugins"},
	{where: "document", text: `config: {timeout_ms: 1500}`, done: "timeout of the nodes that have none", check: firstNode(timeout), want: 1500 * time.Millisecond},
	{where: "document", text: `config: {retry_policy: {max_retries: 2, backoff_ms: 50, max_backoff_ms: 200}}`, done: "retry of the nodes that have none",
		check: firstNode(func(n *Node) any { return fmt.Sprint(n.Retry.MaxAttempts, n.Retry.Base, n.Retry.Max) }), want: "2 50ms 200ms"},
	{where: "document", text: `config: {retry_policy: {retry_on_timeout: false}}`, at: "config.retry_policy.retry_on_timeout"},
	{where: "document", text: `config: {batch_size: 1}`, done: "nodes take one call at a time, unless their Python code declares another size", check: nothing},
	{where: "document", text: `config: {batch_size: 8}`, at: "config.batch_size"},
	{where: "document", text: `config: {execution_mode: streaming}`, at: "config.execution_mode"},
	{where: "document", text: `config: {runtime_config: {enable_docker: true}}`, at: "config.runtime_config"},
	{where: "document", text: `defaults: {sample_rate: 16000}`, at: "defaults"},
	{where: "document", text: `dependencies: [numpy]`, at: "dependencies"},
	{where: "node", text: `nodeType: A`, done: "node_type", check: firstNode(func(n *Node) any { return n.Type }), want: "A"},
	{where: "node", text: `config: {rate: 16000}`, done: "params", check: firstNode(params), want: map[string]any{"rate": int64(16000)}},
	{where: "node", text: `is_streaming: true`, done: "the Python code determines it", check: nothing},
	{where: "node", text: `isStreaming: true`, done: "the Python code determines it", check: nothing},
	{where: "node", text: `is_output_node: true`, done: "the node's values are part of the result, even if it is connected on", check: firstNode(isOutput), want: true},
	{where: "node", text: `executor: multiprocess`, done: "a node runs in processes of its own; native, python, auto and null are accepted, too", check: nothing},
	{where: "node", text: `executor: docker`, at: "nodes[0].executor"},
	{where: "node", text: `executor: wasm`, at: "nodes[0].executor"},
	{where: "node", text: `capabilities: {gpu: {type: cuda, required: false}}`, done: "the node looks for a GPU itself", check: nothing},
	{where: "node", text: `capabilities: {gpu: {type: cuda}}`, at: "nodes[0].capabilities.gpu"},
	{where: "node", text: `capabilities: {cpu: {cores: 1}, memory_gb: 0.1}`, done: "compared with this machine", check: nothing},
	{where: "node", text: `capabilities: {cpu: {cores: 100000}}`, at: "nodes[0].capabilities.cpu.cores"},
	{where: "node", text: `capabilities: {cpu: {arch: mips}}`, at: "nodes[0].capabilities.cpu.arch"},
	{where: "node", text: `capabilities: {memory_gb: 1e9}`, at: "nodes[0].capabilities.memory_gb"},
	{where: "node", text: `media_capabilities: {inputs: {default: {type: audio, sample_rate: 16000}}}`, at: "nodes[0].media_capabilities"},
	{where: "node", text: `host: gpu-box`, done: "the node runs on the machine with this name", check: nothing},
	{where: "node", text: `host: "gpu-box:50051"`, at: "nodes[0].host"},
	{where: "node", text: `runtime_hint: cpython`, done: "nodes run on CPython; auto is accepted, too", check: nothing},
	{where: "node", text: `runtime_hint: rust_python`, at: "nodes[0].runtime_hint"},
	{where: "node", text: `runtime_hint: cpython_wasm`, at: "nodes[0].runtime_hint"},
	{where: "node", text: `execution: {placement: prefer_remote}`, done: "nodes run on this machine; local, prefer_local and auto are accepted, too", check: nothing},
	{where: "node", text: `execution: {placement: remote}`, at: "nodes[0].execution.placement"},
	{where: "node", text: `execution: {fallback: b}`, at: "nodes[0].execution.fallback"},
	{where: "node", text: `docker: {base_image: "python:3.12", env: {A: b}}`, done: "container: each worker runs in one", check: firstNode(inContainer), want: "python:3.12 map[A:b] 0 0 0 []"},
	{where: "node", text: `docker: {python_version: "3.11", python_packages: [iceoryx2]}`, done: "the image is that of Python; gophersnake has no need of iceoryx2",
		check: firstNode(inContainer), want: "docker.io/library/python:3.11-slim map[] 0 0 0 []"},
	{where: "node", text: `docker: {resource_limits: {memory_mb: 512, cpu_cores: 1.5}, shm_size_mb: 64}`, done: "limits of the container",
		check: firstNode(inContainer), want: "docker.io/library/python:3.11-slim map[] 536870912 1.5 67108864 []"},
	{where: "node", text: `docker: {volumes: [{host_path: /m, container_path: /n, read_only: true}]}`, done: "mounts of the container",
		check: firstNode(inContainer), want: "docker.io/library/python:3.11-slim map[] 0 0 0 [{/m /n false}]"},
	{where: "node", text: `docker: {base_image: a, python_packages: [torch]}`, at: "nodes[0].docker.python_packages"},
	{where: "node", text: `docker: {base_image: a, system_packages: [ffmpeg]}`, at: "nodes[0].docker.system_packages"},
	{where: "node", text: `docker: {base_image: a, gpu_devices: ["0"]}`, at: "nodes[0].docker.gpu_devices"},
	{where: "node", text: `docker: {base_image: a, security: {cap_drop: [ALL]}}`, at: "nodes[0].docker.security"},
	{where: "node", text: `fast_path: true`, done: "no call has the overhead that it saves", check: nothing},
	{where: "node", text: `python_deps: ["numpy==2.2.6"]`, done: "requirements of the node", check: firstNode(requirements), want: []string{"numpy==2.2.6"}},
	{where: "node", text: `python_env: {python_version: 3.10, extra_deps: [numpy]}`, done: "interpreter and requirements of the node", check: firstNode(interpreter), want: "3.10"},
	{where: "node", text: `metadata: {description: hears}`, done: "a free map", check: nothing},
	{where: "node", text: `metadata: {use_docker: true, docker_config: {base_image: a, env_vars: {A: b}}}`, done: "docker", check: firstNode(inContainer), want: "a map[A:b] 0 0 0 []"},
	{where: "node", text: `metadata: {docker_config: {base_image: a}}`, done: "without use_docker, no container", check: firstNode(func(n *Node) any { return n.Container == nil }), want: true},
	{where: "node", text: `metadata: {use_docker: true}`, at: "nodes[0].metadata.use_docker"},
	{where: "node", text: `description: hears`, done: "a comment", check: nothing},
	{where: "node", text: `comment: hears`, done: "a comment", check: nothing},
	{where: "node", text: `dependencies: [b]`, done: "the connections say the same", check: nothing},
	{where: "node", text: `node_id: a`, at: "nodes[0].node_id"},
	{where: "connection", text: `source: a, target: b`, done: "from and to", check: ports, want: []string{"a > b."}},
	{where: "connection", text: `from: a, to: b, to_port: left`, done: "the port in to: b.left", check: ports, want: []string{"a > b.left"}},
	{where: "connection", text: `from: a, to: b, from_port: default, to_port: default`, done: "no port", check: ports, want: []string{"a > b."}},
	{where: "connection", text: `from: a, to: b, from_port: words`, at: "connections[0].from_port"},
	{where: "connection", text: `source: a, target: b, field_mapping: {target_field: input}`,
		done: "target_field is the port of a node that edges with several target fields lead to", check: ports, want: []string{"a > b."}},
	{where: "connection", text: `source: a, target: b, field_mapping: {source_field: data}`, at: "connections[0].field_mapping.source_field"},
	{where: "connection", text: `from: a, to: b, params: {buffer_size: 10}`, at: "connections[0].params"},
	{where: "connection", text: `from: a, to: b, channel_name: words`, done: "a comment", check: nothing},
	{where: "connection", text: `from: a, to: b, type: audio`, done: "a comment", check: nothing},
	{where: "connection", text: `from: a, to: b, description: loud`, done: "a comment", check: nothing},
	{where: "connection", text: `from: a, to: b, comment: loud`, done: "a comment", check: nothing},
	{where: "connection", text: `from_node: a, to_node: b`, at: "connections[0].from_node"},
}

// document returns a document with the row's text.
func (row *foreignRow) document() string {
	switch row.where {
	case "node":
		nodeType := "node_type: A, "
		if strings.HasPrefix(row.text, "nodeType") {
			nodeType = ""
		}
		return "version: v1\nnodes:\n  - {id: a, " + nodeType + row.text + "}\n  - {id: b, node_type: B}\n"
	case "connection":
		return "version: v1\nnodes: [{id: a, node_type: A}, {id: b, node_type: B}]\nconnections:\n  - {" + row.text + "}\n"
	}
	version := "version: v1\n"
	if strings.HasPrefix(row.text, "version") {
		version = ""
	}
	return version + row.text + "\nnodes: [{id: a, node_type: A}]\n"
}

// outcome parses the row's document and returns what becomes of the field, and why.
func (row *foreignRow) outcome(t *testing.T) (verdict, why string) {
	t.Helper()
	text := row.document()
	p, err := Parse("p.yaml", []byte(text), t.TempDir())
	var said Problem
	var all *Errors
	switch {
	case row.done != "":
		require.NoError(t, err)
		assert.Equal(t, row.want, row.check(p))
		return "done", row.done
	case errors.As(err, &all):
		verdict = "refused"
		for _, problem := range all.Problems {
			assert.NotContains(t, problem.Message, "unknown field")
			if problem.Path == row.at {
				said = problem
			}
		}
	default:
		require.NoError(t, err)
		require.Len(t, p.Notes, 1)
		verdict, said = "no effect", p.Notes[0]
		assert.True(t, strings.HasPrefix(said.Message, "has no effect: "), said.Message)
	}
	require.Equal(t, row.at, said.Path)
	line := strings.Split(text, "\n")[said.Line-1]
	key := row.at[strings.LastIndex(row.at, ".")+1:]
	assert.Equal(t, strings.Index(line, key+": ")+len(key)+2, said.Column-1, "the column is that of the value: %v", said)
	return verdict, strings.TrimPrefix(said.Message, "has no effect: ")
}

func TestEveryFieldOfRemoteMediasManifestsIsDoneOrRefused(t *testing.T) {
	tables := make(map[string]string)
	for _, row := range foreignRows {
		verdict, why := row.outcome(t)
		why = strings.ReplaceAll(ofMachine.ReplaceAllString(why, "this machine $1 …,"), "|", `\|`)
		tables[row.where] += fmt.Sprintf("| `%s` | %s | %s |\n", row.text, verdict, why)
	}
	const docs = "../docs/remotemedia-manifests.md"
	old, err := os.ReadFile(docs)
	require.NoError(t, err)
	text := string(old)
	for _, where := range []string{"document", "node", "connection"} {
		begin, end := "<!-- fields of a "+where+" -->\n", "<!-- end -->"
		before, rest, found := strings.Cut(text, begin)
		require.True(t, found, begin)
		_, after, found := strings.Cut(rest, end)
		require.True(t, found)
		text = before + begin + "\n| field | | what it does, or why not |\n| --- | --- | --- |\n" + tables[where] + "\n" + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(docs, []byte(text), 0o644))
		return
	}
	assert.Equal(t, string(old), text, "run go test ./runner/manifest -run "+t.Name()+" -update")
}

// ofMachine matches what a message says of this machine, which differs between machines.
var ofMachine = regexp.MustCompile(`this machine (has|is) [^,]+,`)

// Every field that the parser knows has a row.
func TestEveryForeignFieldHasARow(t *testing.T) {
	d := &decoder{report: newReport("p.yaml")}
	node, _ := d.foreignNode(new(Node))
	connection, _ := d.foreignConnection(new(Connection))
	for where, known := range map[string]fields{"document": d.foreignDocument(new(Pipeline)), "node": node, "connection": connection} {
		for _, name := range slices.Sorted(maps.Keys(known)) {
			assert.True(t, slices.ContainsFunc(foreignRows, func(row foreignRow) bool {
				return row.where == where && strings.Contains(", "+row.text, ", "+name+":")
			}), "%s of a %s", name, where)
		}
	}
}

func TestTargetFieldsOfSeveralEdgesArePorts(t *testing.T) {
	const text = `{"version": "1.0.0", "name": "p", "nodes": [
		{"id": "a", "node_type": "A", "executor": null, "config": {}},
		{"id": "b", "node_type": "B", "executor": "multiprocess", "config": {}},
		{"id": "c", "node_type": "C", "executor": "multiprocess", "config": {}},
		{"id": "d", "node_type": "D", "executor": "multiprocess", "config": {}}],
		"edges": [
		{"source": "a", "target": "c", "field_mapping": {"source_field": "data", "target_field": "left"}},
		{"source": "b", "target": "c", "field_mapping": {"source_field": "data", "target_field": "right"}},
		{"source": "a", "target": "d", "field_mapping": {"source_field": "data", "target_field": "input"}},
		{"source": "c", "target": "d", "field_mapping": {"source_field": "data", "target_field": "input"}}]}`
	p, err := Parse("p.json", []byte(text), t.TempDir())
	require.NoError(t, err)
	assert.Equal(t, []string{"a > c.left", "b > c.right", "a > d.", "c > d."}, ports(p))
	assert.True(t, p.Graph().Merges("d"))
	assert.False(t, p.Graph().Merges("c"))
	assert.Equal(t, "p", p.Name)
}

func TestFieldsThatMeanTheSameCannotBeCombined(t *testing.T) {
	for text, want := range map[string]string{
		"nodes: [{id: a, node_type: A, nodeType: A}]":                                                          "nodes[0].nodeType: cannot be combined with node_type, which means the same",
		"nodes: [{id: a, node_type: A, params: {}, config: {}}]":                                               "nodes[0].config: cannot be combined with params, which means the same",
		"nodes: [{id: a, node_type: A, interpreter: python3, python_env: {python_version: '3.11'}}]":           "nodes[0].python_env: cannot be combined with interpreter, which means the same",
		"nodes: [{id: a, node_type: A}]\nconnections: []\nedges: []":                                           "edges: cannot be combined with connections, which means the same",
		"nodes: [{id: a, node_type: A}]\ninterpreter: python3\npython_env: {python_version: '3.11'}":           "python_env: python_version cannot be combined with interpreter, which means the same",
		"nodes: [{id: a, node_type: A}, {id: b, node_type: B}]\nconnections: [{from: a, source: a, to: b}]":    "connections[0].source: cannot be combined with from, which means the same",
		"nodes: [{id: a, node_type: A}, {id: b, node_type: B}]\nconnections: [{from: a, to: b.x, to_port: y}]": `connections[0].to_port: is not "x", the port in "to"`,
		"nodes: [{id: a, node_type: A, python_env: {scope: per_nod}}]":                                         `nodes[0].python_env.scope: unknown scope "per_nod"; did you mean "per_node"?`,
		"nodes: [{id: a, node_type: A, executor: multiproces}]":                                                `nodes[0].executor: unknown executor "multiproces"; did you mean "multiprocess"?`,
		"nodes: [{id: a, node_type: A, container: x, docker: {base_image: x}}]":                                "nodes[0].docker: cannot be combined with container, which means the same",
		"nodes: [{id: a, node_type: A}]\nconfig: {timeout_ms: 0}":                                              "config.timeout_ms: must be more than 0",
		"nodes: [{id: a, node_type: A}]\nconfig: {retry_policy: {max_retries: -1}}":                            "config.retry_policy.max_attempts: must be between 0 and 1000000",
	} {
		t.Run(want, func(t *testing.T) {
			assert.Contains(t, problems(t, "p.yaml", "version: v1\n"+text+"\n").Error(), want)
		})
	}
}

// What a null field says is that it is left out, as serializers write it.
func TestNullFieldsAreLeftOut(t *testing.T) {
	d := &decoder{report: newReport("p.json")}
	node, _ := d.foreignNode(new(Node))
	for _, name := range slices.Sorted(maps.Keys(node)) {
		if name == "nodeType" {
			continue
		}
		p, err := Parse("p.json", fmt.Appendf(nil, `{"version": "v1", "nodes": [{"id": "a", "node_type": "A", %q: null}]}`, name), t.TempDir())
		require.NoError(t, err, name)
		assert.Equal(t, NewNode("a", "A").Timeout, p.Nodes[0].Timeout)
	}
}

// Manifests that were written in the shapes of RemoteMedia's examples satisfy the schema, too.
func TestManifestsInRemoteMediasShapesAreValid(t *testing.T) {
	schema := compileSchema(t)
	files, err := filepath.Glob("../testdata/dialects/*.*")
	require.NoError(t, err)
	tried := 0
	for _, file := range files {
		if filepath.Ext(file) == ".py" {
			continue
		}
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NoError(t, schema.Validate(plain(t, file, data)), file)
		_, err = Parse(file, data, filepath.Dir(file))
		assert.NoError(t, err, file)
		tried++
	}
	assert.GreaterOrEqual(t, tried, 8)
}
