package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// Words of manifests. The fuzzer combines them into documents that are nearly valid.
var (
	rootKeys = []string{"version", "nodes", "connections", "python", "metadata", "requirements", "interpreter", "nodse",
		"edges", "config", "python_env", "plugins", "name", "defaults", "dependencies"}
	nodeKeys = []string{"id", "node_type", "params", "workers", "timeout", "setup_timeout", "retry", "breaker", "idempotent",
		"limits", "env", "python", "isolation", "pass_env", "time_out", "config", "executor", "docker", "container", "capabilities", "python_deps",
		"python_env", "requirements", "interpreter", "is_output_node", "metadata", "execution", "host", "runtime_hint", "nodeType", "is_streaming"}
	innerKeys = []string{"min", "max", "spare", "scale_after", "idle_timeout", "max_age", "max_calls", "fork_server", "memory", "resident",
		"resident_soft", "cpu_time", "open_files", "threads", "result", "queue", "queue_wait", "max_attempts", "fixed", "base", "multiplier",
		"jitter", "budget", "on", "failures", "cool_down", "probes", "from", "to", "network", "read", "write", "processes", "x",
		"source", "target", "to_port", "from_port", "field_mapping", "target_field", "image", "mounts", "host", "path", "python_version", "extra_deps", "scope",
		"gpu", "cpu", "cores", "required", "memory_gb", "placement", "base_image", "memory_mb", "timeout_ms", "retry_policy", "max_retries", "use_docker"}
	words = []string{"v1", "a", "b", "a.left", "nodes.py", "nodes.py:Words", "Words", "1s", "100ms", "-5m", "2GiB", "64 MiB", "1e3", "none",
		"strict", "python_vm", "numpy==2.2.6", "AWS_*", "3.12", "", " ", "ä\u2028🐍", "null", "0x10", "~", "yes", "*a", "<<", "- x", "a: b"}
)

// generator turns the bytes of a fuzzer into a document.
type generator struct{ b []byte }

func (g *generator) pick(n int) int {
	if len(g.b) == 0 {
		return 0
	}
	k := int(g.b[0]) % n
	g.b = g.b[1:]
	return k
}

func (g *generator) document() map[string]any {
	doc := map[string]any{"version": "v1", "nodes": []any{map[string]any{"id": "a", "node_type": "Words", "python": "nodes.py"}}}
	for range g.pick(6) {
		switch key := rootKeys[g.pick(len(rootKeys))]; {
		case key == "nodes" && g.pick(8) > 0:
			doc[key] = g.list(g.node)
		case key == "connections" && g.pick(8) > 0:
			doc[key] = g.list(func() any {
				return g.fields([]string{"from", "to", "source", "target", "to_port", "from_port", "field_mapping", "params"})
			})
		default:
			doc[key] = g.value(3)
		}
	}
	return doc
}

func (g *generator) node() any {
	node := map[string]any{"id": words[1+g.pick(2)], "node_type": "Words", "python": "nodes.py"}
	for range g.pick(6) {
		key := nodeKeys[g.pick(len(nodeKeys))]
		if g.pick(2) == 0 {
			node[key] = g.fields(innerKeys)
		} else {
			node[key] = g.value(2)
		}
	}
	return node
}

func (g *generator) fields(keys []string) any {
	fields := map[string]any{}
	for range g.pick(5) {
		fields[keys[g.pick(len(keys))]] = g.value(1)
	}
	return fields
}

func (g *generator) list(item func() any) []any {
	items := []any{}
	for range g.pick(4) {
		items = append(items, item())
	}
	return items
}

func (g *generator) value(depth int) any {
	kinds := 5
	if depth > 0 {
		kinds = 7
	}
	switch g.pick(kinds) {
	case 0:
		return words[g.pick(len(words))]
	case 1:
		return g.pick(256) - 100
	case 2:
		return []any{int64(1) << 40, uint64(1) << 63, 1.5, -0.25, 1e300, 0}[g.pick(6)]
	case 3:
		return g.pick(2) == 1
	case 4:
		return nil
	case 5:
		return g.list(func() any { return g.value(depth - 1) })
	}
	return g.fields(innerKeys)
}

// FuzzDocuments checks that a document means the same in JSON and in YAML, including
// the position of each problem, and that the schema accepts what the parser accepts.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte{})
	for i := range 64 {
		f.Add(bytes.Repeat([]byte{byte(i), byte(7 * i), byte(i >> 2), 3, byte(31 * i), 1, 5}, 9))
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	require.NoError(f, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(f, compiler.AddResource("pipeline.json", doc))
	schema, err := compiler.Compile("pipeline.json")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, seed []byte) {
		var text bytes.Buffer
		lines := json.NewEncoder(&text)
		lines.SetIndent("", " ")
		lines.SetEscapeHTML(false)
		require.NoError(t, lines.Encode((&generator{seed}).document()))

		asJSON, failure := Parse("p.json", text.Bytes(), "testdata/valid")
		asYAML, failureYAML := Parse("p.yaml", text.Bytes(), "testdata/valid")
		if failure == nil {
			require.NoError(t, failureYAML, text.String())
			asYAML.File = asJSON.File
			for i := range asYAML.Notes {
				asYAML.Notes[i].File = asJSON.File
			}
			require.Equal(t, asJSON, asYAML, text.String())
			again, err := jsonschema.UnmarshalJSON(&text)
			require.NoError(t, err)
			require.NoError(t, schema.Validate(again))
			return
		}
		require.Error(t, failureYAML, text.String())
		require.Equal(t, problemsOf(t, failure), problemsOf(t, failureYAML), text.String())
	})
}

func problemsOf(t *testing.T, err error) []Problem {
	var all *Errors
	require.True(t, errors.As(err, &all))
	problems := slices.Clone(all.Problems)
	for i := range problems {
		problems[i].File = ""
	}
	return problems
}
