package manifest

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

const maxAttempts = 1_000_000

// kinds are the kinds of errors that retry.on may name.
var kinds = []string{
	"execution", "io", "manifest", "marshaling", "other",
	"python_vm", "serialization", "transport", "wasm",
}

var (
	idText   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
	portText = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate checks a pipeline, as [Parse] does with one that it reads: names,
// figures, connections, and that the Python files exist. The error is an
// [*Errors]; it has positions where the pipeline has them.
func (p *Pipeline) Validate() error {
	r := newReport(p.File)
	for i, n := range p.Nodes {
		r.positions[nodePath(i)] = n.Position
	}
	for i, c := range p.Connections {
		r.positions[connectionPath(i)] = c.Position
	}
	p.check(r)
	return r.err()
}

func nodePath(i int) string       { return fmt.Sprintf("nodes[%d]", i) }
func connectionPath(i int) string { return fmt.Sprintf("connections[%d]", i) }

// check looks at what a pipeline means, whether it comes from a document or not.
func (p *Pipeline) check(r *report) {
	switch p.Version {
	case Version:
	case "":
		r.at("version", "is required; write version: %s", Version)
	default:
		r.at("version", "%q is not known; this program reads version: %s", shorten(p.Version), Version)
	}
	if name, ok := p.Metadata["name"]; ok {
		if _, ok := name.(string); !ok {
			r.at("metadata.name", "must be a string, not %v", name)
		}
	}
	for i, line := range p.Requirements {
		checkRequirement(r, fmt.Sprintf("requirements[%d]", i), line)
	}
	checkText(r, "interpreter", p.Interpreter)
	checkSource(r, p.Base, "python", p.Python)
	if len(p.Nodes) == 0 {
		r.at("nodes", "a pipeline has at least one node")
	}
	first := make(map[string]int, len(p.Nodes))
	for i := range p.Nodes {
		n, path := &p.Nodes[i], nodePath(i)
		checkNode(r, p.Base, path, n)
		if n.ID == "" {
			continue
		}
		if j, ok := first[n.ID]; ok {
			r.at(path+".id", "%q is the id of %s already", n.ID, r.describe(nodePath(j)))
			continue
		}
		first[n.ID] = i
	}
	p.checkConnections(r, first)
}

// describe names a part of the document, with its line where that is known.
func (r *report) describe(path string) string {
	if pos := r.positions[path]; pos.Line > 0 {
		return fmt.Sprintf("%s in line %d", path, pos.Line)
	}
	return path
}

func checkNode(r *report, base, path string, n *Node) {
	switch {
	case n.ID == "":
		r.at(path+".id", "is required")
	case !idText.MatchString(n.ID):
		r.at(path+".id", "%q must consist of letters, digits, _ and -, and not begin with -", shorten(n.ID))
	}
	if n.Type == "" {
		r.at(path+".node_type", "is required")
	}
	checkSource(r, base, path+".python", n.Python)
	checkWorkers(r, path+".workers", n.Workers)
	notNegative(r, path+".timeout", n.Timeout)
	if n.SetupTimeout <= 0 {
		r.at(path+".setup_timeout", "must be more than 0")
	}
	if n.Retry != nil {
		checkRetry(r, path+".retry", n.Retry)
	}
	if b := n.Breaker; b != nil && !b.Disabled {
		checkBreaker(r, path+".breaker", b)
	}
	checkLimits(r, path+".limits", n.Limits)
	checkIsolation(r, path, n)
	for _, name := range slices.Sorted(maps.Keys(n.Env)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			r.at(path+".env", "%q cannot be the name of an environment variable", shorten(name))
		case strings.Contains(n.Env[name], "\x00"):
			r.at(path+".env."+name, "must not hold a zero byte")
		}
	}
}

func checkRetry(r *report, path string, retry *Retry) {
	switch retry.Mode {
	case RetryNone:
		return
	case RetryFixed, RetryExponential:
	default:
		r.at(path, "the mode %q is not known; it is none, fixed or exponential", retry.Mode)
	}
	if retry.MaxAttempts < 0 || retry.MaxAttempts > maxAttempts {
		r.at(path+".max_attempts", "must be between 0 and %d", maxAttempts)
	}
	notNegative(r, path+".base", retry.Base)
	notNegative(r, path+".max", retry.Max)
	notNegative(r, path+".budget", retry.Budget)
	if retry.Max > 0 && retry.Base > retry.Max {
		r.at(path+".base", "%v is more than max, which is %v", retry.Base, retry.Max)
	}
	if !(retry.Multiplier >= 1 && retry.Multiplier <= math.MaxFloat64) {
		r.at(path+".multiplier", "must be 1 or more, not %v", retry.Multiplier)
	}
	if !(retry.Jitter >= 0 && retry.Jitter <= 1) {
		r.at(path+".jitter", "must be a fraction between 0 and 1, not %v", retry.Jitter)
	}
	for i, kind := range retry.On {
		if !slices.Contains(kinds, kind) {
			r.unknownName(fmt.Sprintf("%s.on[%d]", path, i), kind, kinds,
				"there is no kind of error %q", "; the kinds are "+enumerate(kinds))
		}
	}
}

func checkBreaker(r *report, path string, b *Breaker) {
	if b.Failures < 1 {
		r.at(path+".failures", "must be at least 1")
	}
	if b.CoolDown <= 0 {
		r.at(path+".cool_down", "must be more than 0")
	}
	if b.Probes < 1 {
		r.at(path+".probes", "must be at least 1")
	}
}

// checkText refuses what no file name or command can hold.
func checkText(r *report, path, text string) {
	if strings.ContainsAny(text, "\x00\r\n") {
		r.at(path, "must be a single line of text")
	}
}

// unknownName tells of a name that is not known: with the one that is meant, or
// else with a list of all.
func (r *report) unknownName(path, name string, known []string, message, all string) {
	var meant string
	if !r.full() {
		meant = nearest(name, known)
	}
	if meant == "" {
		message += strings.ReplaceAll(all, "%", "%%")
	}
	r.suggest(path, meant, message, shorten(name))
}
