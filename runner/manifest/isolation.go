package manifest

import (
	"fmt"
	"strings"
)

// AnyProcesses is the number of processes that stands for any number.
const AnyProcesses = -1

// Isolation is what a node's workers may do, where they may do less than their
// user. The zero Isolation is strict: nothing that is not named here.
type Isolation struct {
	// Read and Write are folders and files that they may read, and change, besides
	// those of Python, of the system's libraries and of the pipeline; relative ones
	// are in the pipeline's folder.
	Read, Write []string
	// Network lets them have sockets.
	Network bool
	// Signals lets them signal other processes.
	Signals bool
	// Processes is how many further processes and threads each may have at a time; 0
	// is no process and any number of threads, [AnyProcesses] any number of both.
	Processes int
	// CPUs is how many each may use at a time; 0 is all.
	CPUs float64
}

// maxProcesses and maxCPUs are more than any machine has.
const (
	maxProcesses = 1 << 22
	maxCPUs      = 8192
	minCPUs      = 0.01
)

// isolation reads none, strict, or what is allowed beyond that.
func (d *decoder) isolation(dst **Isolation) reader {
	return func(at place) {
		if d.isNone(at) {
			return
		}
		*dst = new(Isolation)
		if d.isWord(at, "strict") {
			return
		}
		i := *dst
		d.object(at, "none, strict, or a map such as {read: [data], network: true}", fields{
			"read":      d.texts(&i.Read),
			"write":     d.texts(&i.Write),
			"network":   d.flag(&i.Network),
			"signals":   d.flag(&i.Signals),
			"processes": d.processes(&i.Processes),
			"cpus":      d.cpus(&i.CPUs),
		})
	}
}

// isWord reports whether a value is the given word.
func (d *decoder) isWord(at place, word string) bool {
	at, ok := d.follow(at)
	return ok && at.node.ShortTag() == "!!str" && at.node.Value == word
}

// texts reads a list of texts.
func (d *decoder) texts(dst *[]string) reader {
	return d.list(func(_ int, at place) {
		var text string
		d.text(&text)(at)
		*dst = append(*dst, text)
	})
}

// processes reads a number, or any.
func (d *decoder) processes(dst *int) reader {
	return func(at place) {
		if d.isWord(at, "any") {
			*dst = AnyProcesses
			return
		}
		if d.integer(dst)(at); *dst < 0 {
			*dst = 0
			d.at(at.path, "must be 0 or more, or any")
		}
	}
}

// cpus reads a number of CPUs, for which 0 is none rather than all.
func (d *decoder) cpus(dst *float64) reader {
	return func(at place) {
		if d.float(dst)(at); *dst == 0 {
			d.at(at.path, "%s", cpusText)
		}
	}
}

var cpusText = fmt.Sprintf("must be a number from %v to %d", minCPUs, maxCPUs)

func checkIsolation(r *report, path string, n *Node) {
	checkPassEnv(r, path+".pass_env", n.PassEnv)
	i := n.Isolation
	if i == nil {
		return
	}
	path += ".isolation"
	for _, list := range []struct {
		name  string
		paths []string
	}{{"read", i.Read}, {"write", i.Write}} {
		for j, each := range list.paths {
			at := fmt.Sprintf("%s.%s[%d]", path, list.name, j)
			if each == "" {
				r.at(at, "must be a folder or a file")
			}
			checkText(r, at, each)
		}
	}
	if i.Processes < AnyProcesses || i.Processes > maxProcesses {
		r.at(path+".processes", "must be between 0 and %d, or any", maxProcesses)
	}
	if i.CPUs != 0 && !(i.CPUs >= minCPUs && i.CPUs <= maxCPUs) {
		r.at(path+".cpus", "%s", cpusText)
	}
	if n.Workers.ForkServer {
		r.at(path, "does not go with workers.fork_server: what forks workers cannot be isolated as they are")
	}
}

// checkPassEnv looks at names of environment variables, which may hold * and ?.
func checkPassEnv(r *report, path string, names []string) {
	for i, name := range names {
		if name == "" || strings.ContainsAny(name, "=/[]\\\x00") {
			r.at(fmt.Sprintf("%s[%d]", path, i), "%q is neither the name of an environment variable nor a pattern such as AWS_*", shorten(name))
		}
	}
}
