package manifest

import (
	"fmt"
	"strings"
)

// The limits of isolation; maxProcesses and maxCPUs are more than any machine has.
const (
	maxProcesses = 1 << 22
	maxCPUs      = 8192
	minCPUs      = 0.01
)

// isolation returns a decodeFunc for isolation: none, strict, or a map of what is
// allowed beyond strict.
func (d *decoder) isolation(dst **Isolation) decodeFunc {
	return func(e element) {
		if d.isWord(e, "none") {
			return
		}
		*dst = new(Isolation)
		if d.isWord(e, "strict") {
			return
		}
		i := *dst
		d.object(e, "none, strict, or a map such as {read: [data], network: true}", fields{
			"read":      d.texts(&i.Read),
			"write":     d.texts(&i.Write),
			"network":   d.boolean(&i.Network),
			"signals":   d.boolean(&i.Signals),
			"processes": d.processes(&i.Processes),
			"cpus":      d.cpus(&i.CPUs),
		})
	}
}

// processes returns a decodeFunc for a number of processes, or the word any.
func (d *decoder) processes(dst *int) decodeFunc {
	return func(e element) {
		if d.isWord(e, "any") {
			*dst = AnyProcesses
			return
		}
		if d.integer(dst)(e); *dst < 0 {
			*dst = 0
			d.problem(e.path, "must be 0 or more, or any")
		}
	}
}

// cpus returns a decodeFunc for a number of CPUs. It rejects 0, which in an Isolation
// means all.
func (d *decoder) cpus(dst *float64) decodeFunc {
	return func(e element) {
		if d.float(dst)(e); *dst == 0 {
			d.problem(e.path, "%s", cpusText)
		}
	}
}

var cpusText = fmt.Sprintf("must be a number from %v to %d", minCPUs, maxCPUs)

func checkIsolation(r *report, path string, n *Node) {
	i := n.Isolation
	if i == nil {
		return
	}
	for _, list := range []struct {
		name  string
		paths []string
	}{{"read", i.Read}, {"write", i.Write}} {
		for j, each := range list.paths {
			at := fmt.Sprintf("%s.%s[%d]", path, list.name, j)
			if each == "" {
				r.problem(at, "must name a file or a folder")
			}
			checkSingleLine(r, at, each)
		}
	}
	if i.Processes < AnyProcesses || i.Processes > maxProcesses {
		r.problem(path+".processes", "must be between 0 and %d, or any", maxProcesses)
	}
	if i.CPUs != 0 && !(i.CPUs >= minCPUs && i.CPUs <= maxCPUs) {
		r.problem(path+".cpus", "%s", cpusText)
	}
	if n.Workers.ForkServer {
		r.problem(path, "cannot be combined with workers.fork_server: the fork server cannot be isolated as its workers are")
	}
}

// checkPassEnv checks names of environment variables, which may contain * and ?.
func checkPassEnv(r *report, path string, names []string) {
	for i, name := range names {
		if name == "" || strings.ContainsAny(name, "=/[]\\\x00") {
			r.problem(fmt.Sprintf("%s[%d]", path, i), "%q is neither the name of an environment variable nor a pattern such as AWS_*", shorten(name))
		}
	}
}
