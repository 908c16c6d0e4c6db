package manifest

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pipeline decodes the whole document. It returns nil if the document is not a map.
func (d *decoder) pipeline(root *yaml.Node) *Pipeline {
	p := new(Pipeline)
	given := d.object(element{node: root}, "a map with version, nodes and connections", fields{
		"$schema":      d.text(new(string)), // for editors
		"version":      d.version(&p.Version),
		"metadata":     d.metadata(&p.Metadata),
		"requirements": d.requirements(&p.Requirements),
		"interpreter":  d.text(&p.Interpreter),
		"python":       d.text(&p.Python),
		"nodes": d.list(func(_ int, e element) {
			p.Nodes = append(p.Nodes, d.node(e))
		}),
		"connections": d.list(func(_ int, e element) {
			p.Connections = append(p.Connections, d.connection(e))
		}),
	}, d.foreignDocument(p))
	if given == nil {
		return nil
	}
	d.completePipeline(p, given)
	p.Notes = d.notes
	return p
}

// version returns a decodeFunc for the version. It accepts numbers, because
// Pipeline.check has a better message for them than that they are not strings.
func (d *decoder) version(dst *string) decodeFunc {
	return func(e element) {
		if e, ok := d.scalar(e, `"`+Version+`"`); ok {
			*dst = e.node.Value
			if slices.Contains(dialectVersions, *dst) {
				*dst = Version
			}
		}
	}
}

func (d *decoder) node(e element) Node {
	n := NewNode("", "")
	n.Position = e.position()
	foreign, complete := d.foreignNode(&n)
	given := d.object(e, "a map with id and node_type", fields{
		"id":            d.text(&n.ID),
		"node_type":     d.text(&n.Type),
		"params":        d.values(&n.Params, &n.order),
		"python":        d.text(&n.Python),
		"requirements":  d.requirements(&n.Requirements),
		"interpreter":   d.text(&n.Interpreter),
		"workers":       d.workers(&n.Workers),
		"timeout":       d.duration(&n.Timeout, orNone),
		"setup_timeout": d.duration(&n.SetupTimeout, positive),
		"retry":         d.retry(&n.Retry),
		"breaker":       d.breaker(&n.Breaker),
		"idempotent":    d.boolean(&n.Idempotent),
		"limits":        d.limits(&n.Limits),
		"env":           d.env(&n.Env),
		"pass_env":      d.texts(&n.PassEnv),
		"isolation":     d.isolation(&n.Isolation),
		"container":     d.container(&n.Container),
		"host":          d.optional(d.host(&n.Host)),
		"wasm":          d.wasm(&n.Wasm),
		"command":       d.command(&n.Command),
	}, foreign)
	complete(given)
	if n.Type == "" {
		n.Type = programType(&n)
	}
	d.foreign.nodes = append(d.foreign.nodes, given)
	return n
}

// env returns a decodeFunc for environment variables.
func (d *decoder) env(dst *map[string]string) decodeFunc {
	return func(e element) {
		e, ok := d.resolve(e)
		if !ok || e.node.ShortTag() == "!!null" {
			return
		}
		entries, _ := d.entries(e, "a map of names and values")
		env := make(map[string]string, len(entries))
		for _, entry := range entries {
			var value string
			d.positions[entry.value.path] = entry.value.position()
			d.anyText(&value)(entry.value)
			env[entry.name] = value
		}
		*dst = env
	}
}

func (d *decoder) connection(e element) Connection {
	c := Connection{Position: e.position()}
	foreign, complete := d.foreignConnection(&c)
	given := d.object(e, "a map such as {from: a, to: b}", fields{
		"from": d.text(&c.From),
		"to":   d.text(&c.To),
		"fuse": d.optional(d.boolean(&c.Fuse)),
	}, foreign)
	if node, port, _ := strings.Cut(c.To, "."); port != "" {
		c.To, c.Port = node, port
	}
	complete(given)
	return c
}
