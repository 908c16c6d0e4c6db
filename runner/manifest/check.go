package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	idText   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
	portText = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate checks a pipeline as [Parse] does: names, numbers, connections, and that
// the Python files exist. The error is an [*Errors]. Its problems have positions if
// the nodes and connections have them.
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

// check checks what the values of a pipeline mean, whether or not it comes from a
// document.
func (p *Pipeline) check(r *report) {
	switch p.Version {
	case Version:
	case "":
		r.problem("version", "is required; write version: %s", Version)
	default:
		r.problem("version", "%q is not supported; write version: %s", shorten(p.Version), Version)
	}
	if name, ok := p.Metadata["name"]; ok {
		if _, ok := name.(string); !ok {
			r.problem("metadata.name", "must be a string, not %v", name)
		}
	}
	p.checkMetadata(r)
	checkRequirements(r, "requirements", p.Requirements)
	checkSingleLine(r, "interpreter", p.Interpreter)
	checkSource(r, p.folder(), "python", p.Python)
	if len(p.Nodes) == 0 {
		r.problem("nodes", "must list at least one node")
	}
	first := make(map[string]int, len(p.Nodes))
	for i := range p.Nodes {
		n, path := &p.Nodes[i], nodePath(i)
		checkNode(r, p.folder(), path, n)
		if n.ID == "" {
			continue
		}
		if j, ok := first[n.ID]; ok {
			r.problem(path+".id", "%q is already the id of %s", n.ID, r.describePath(nodePath(j)))
			continue
		}
		first[n.ID] = i
	}
	p.checkConnections(r, first)
}

func checkNode(r *report, base folder, path string, n *Node) {
	switch {
	case n.ID == "":
		r.problem(path+".id", "is required")
	case !idText.MatchString(n.ID):
		r.problem(path+".id", "%q must consist of letters, digits, _ and -, and not begin with -", shorten(n.ID))
	}
	if n.Type == "" {
		r.problem(path+".node_type", "is required")
	}
	checkSource(r, base, path+".python", n.Python)
	checkProgram(r, base, path, n)
	checkRequirements(r, path+".requirements", n.Requirements)
	checkSingleLine(r, path+".interpreter", n.Interpreter)
	checkWorkers(r, path+".workers", n.Workers)
	checkNotNegative(r, path+".timeout", n.Timeout)
	if n.SetupTimeout <= 0 {
		r.problem(path+".setup_timeout", "must be more than 0")
	}
	if n.Retry != nil {
		checkRetry(r, path+".retry", n.Retry)
	}
	if b := n.Breaker; b != nil && !b.Disabled {
		checkBreaker(r, path+".breaker", b)
	}
	checkLimits(r, path+".limits", n.Limits)
	checkPassEnv(r, path+".pass_env", n.PassEnv)
	checkIsolation(r, path+".isolation", n)
	checkContainer(r, path, n)
	checkHost(r, path+".host", n.Host)
	for _, name := range slices.Sorted(maps.Keys(n.Env)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			r.problem(path+".env", "%q cannot be the name of an environment variable", shorten(name))
		case strings.Contains(n.Env[name], "\x00"):
			r.problem(path+".env."+name, "must not contain a NUL byte")
		}
	}
}

// checkSingleLine rejects a text that cannot be a file name or a command.
func checkSingleLine(r *report, path, text string) {
	if strings.ContainsAny(text, "\x00\r\n") {
		r.problem(path, "must be a single line of text")
	}
}
