package manifest

import (
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// pipeline reads the whole document. It returns nil where that is no map.
func (d *decoder) pipeline(root *yaml.Node) *Pipeline {
	p := new(Pipeline)
	given := d.object(place{node: root}, "a map with version, nodes and connections", fields{
		"$schema":      d.text(new(string)), // for editors
		"version":      d.version(&p.Version),
		"metadata":     d.values(&p.Metadata),
		"requirements": d.requirements(&p.Requirements),
		"interpreter":  d.text(&p.Interpreter),
		"python":       d.text(&p.Python),
		"nodes": d.list(func(_ int, at place) {
			p.Nodes = append(p.Nodes, d.node(at))
		}),
		"connections": d.list(func(_ int, at place) {
			p.Connections = append(p.Connections, d.connection(at))
		}),
	})
	if given == nil {
		return nil
	}
	return p
}

// version reads the version. It takes numbers, for a better message than that
// they are not strings.
func (d *decoder) version(dst *string) reader {
	return func(at place) {
		if at, ok := d.scalar(at, `"`+Version+`"`); ok {
			*dst = at.node.Value
		}
	}
}

// requirements reads a list of requirement lines, or the name of a file of them.
func (d *decoder) requirements(dst *[]string) reader {
	lines := d.list(func(_ int, at place) {
		var line string
		d.text(&line)(at)
		*dst = append(*dst, line)
	})
	return func(at place) {
		if value, ok := d.follow(at); !ok || value.node.ShortTag() != "!!str" {
			lines(at)
			return
		}
		var file string
		if d.text(&file)(at); file == "" {
			return
		}
		found, err := readRequirements(resolvePath(d.base, file))
		if err != nil {
			d.fail(at, "%v", err)
		}
		*dst = found
	}
}

func (d *decoder) node(at place) Node {
	n := NewNode("", "")
	n.Position = at.position()
	known := fields{
		"id":            d.text(&n.ID),
		"node_type":     d.text(&n.Type),
		"params":        d.values(&n.Params),
		"python":        d.text(&n.Python),
		"workers":       d.workers(&n.Workers),
		"timeout":       d.duration(&n.Timeout, orNone),
		"setup_timeout": d.duration(&n.SetupTimeout, positive),
		"retry":         d.retry(&n.Retry),
		"breaker":       d.breaker(&n.Breaker),
		"idempotent":    d.flag(&n.Idempotent),
		"limits":        d.limits(&n.Limits),
		"env":           d.env(&n.Env),
		"pass_env":      d.texts(&n.PassEnv),
		"isolation":     d.isolation(&n.Isolation),
	}
	d.addV1(known)
	d.object(at, "a map with id and node_type", known)
	return n
}

// isNone reports whether a value is the word none.
func (d *decoder) isNone(at place) bool {
	at, ok := d.follow(at)
	return ok && at.node.Kind == yaml.ScalarNode && at.node.Value == "none"
}

// retry reads none, a fixed delay, or an exponential backoff.
func (d *decoder) retry(dst **Retry) reader {
	return func(at place) {
		r := DefaultRetry()
		*dst = &r
		if d.isNone(at) {
			*dst = &Retry{Mode: RetryNone}
			return
		}
		var fixed time.Duration
		given := d.object(at, "none, or a map such as {max_attempts: 3, base: 100ms}", fields{
			"max_attempts": d.integer(&r.MaxAttempts),
			"base":         d.duration(&r.Base, orZero),
			"max":          d.duration(&r.Max, orNone),
			"multiplier":   d.float(&r.Multiplier),
			"fixed":        d.duration(&fixed, orZero),
			"jitter":       d.float(&r.Jitter),
			"budget":       d.duration(&r.Budget, orNone),
			"on": d.list(func(_ int, at place) {
				var kind string
				d.text(&kind)(at)
				r.On = append(r.On, kind)
			}),
		})
		if on, ok := given["on"]; ok && len(r.On) == 0 {
			d.at(on.path, "names no kind of error; write retry: none for no retries")
		}
		if _, ok := given["fixed"]; ok {
			for _, name := range []string{"base", "max", "multiplier"} {
				if other, ok := given[name]; ok {
					d.at(other.path, "goes with a growing delay, not with fixed")
				}
			}
			r.Mode, r.Base, r.Max, r.Multiplier = RetryFixed, fixed, 0, 1
		}
		if _, ok := given["max"]; !ok && r.Max > 0 {
			r.Max = max(r.Max, r.Base)
		}
	}
}

// breaker reads none, or the figures of a breaker.
func (d *decoder) breaker(dst **Breaker) reader {
	return func(at place) {
		b := DefaultBreaker()
		*dst = &b
		if d.isNone(at) {
			b.Disabled = true
			return
		}
		d.object(at, "none, or a map such as {failures: 5, cool_down: 30s}", fields{
			"failures":  d.integer(&b.Failures),
			"cool_down": d.duration(&b.CoolDown, positive),
			"probes":    d.integer(&b.Probes),
		})
	}
}

// env reads environment variables.
func (d *decoder) env(dst *map[string]string) reader {
	return func(at place) {
		at, ok := d.follow(at)
		if !ok || at.node.ShortTag() == "!!null" {
			return
		}
		entries, _ := d.entries(at, "a map of names and values")
		env := make(map[string]string, len(entries))
		for _, e := range entries {
			var value string
			d.positions[e.value.path] = e.value.position()
			d.anyText(&value)(e.value)
			env[e.name] = value
		}
		*dst = env
	}
}

func (d *decoder) connection(at place) Connection {
	c := Connection{Position: at.position()}
	d.object(at, "a map such as {from: a, to: b}", fields{"from": d.text(&c.From), "to": d.text(&c.To)})
	if node, port, _ := strings.Cut(c.To, "."); port != "" {
		c.To, c.Port = node, port
	}
	return c
}
