package manifest

import (
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Wasm says that a node is a module of WebAssembly.
type Wasm struct {
	// Module is the file of the module, relative to the pipeline's folder.
	Module string
	// Format is the encoding of its inputs and outputs: "msgpack", which is the default, or
	// "json".
	Format string
}

// Command says that a node is an executable, which reads its inputs from its standard input
// and writes its outputs to its standard output.
type Command struct {
	// Args are the program and its arguments. A relative program with a separator is in the
	// pipeline's folder; one without is found by PATH.
	Args []string
	// Protocol is "json-lines", which is the default, "msgpack", or "once".
	Protocol string
	// Output is how the output of the protocol once is read: "json", which is the default,
	// "text" or "bytes".
	Output string
}

// The values of the fields of programs. The first of each is the default.
var (
	wasmFormats    = []string{"msgpack", "json"}
	protocols      = []string{"json-lines", "msgpack", "once"}
	commandOutputs = []string{"json", "text", "bytes"}
)

// wasm returns a decodeFunc for a module: its file, or a map.
func (d *decoder) wasm(dst **Wasm) decodeFunc {
	return func(e element) {
		w := &Wasm{Format: wasmFormats[0]}
		*dst = w
		if resolved, ok := d.resolve(e); ok && resolved.node.Kind == yaml.ScalarNode {
			d.text(&w.Module)(e)
			return
		}
		d.object(e, "a file such as module.wasm, or a map such as {module: module.wasm, format: json}", fields{
			"module": d.text(&w.Module),
			"format": d.text(&w.Format),
		})
	}
}

// command returns a decodeFunc for an executable: its arguments, or a map.
func (d *decoder) command(dst **Command) decodeFunc {
	return func(e element) {
		c := &Command{Protocol: protocols[0], Output: commandOutputs[0]}
		*dst = c
		resolved, ok := d.resolve(e)
		switch {
		case ok && resolved.node.Kind == yaml.ScalarNode:
			d.reject(e, "must be a list such as %s; no shell splits a text", listOfWords(resolved.node.Value))
		case ok && resolved.node.Kind == yaml.SequenceNode:
			d.texts(&c.Args)(e)
		default:
			d.object(e, "a list such as [jq, -c, --unbuffered, .price], or a map such as {args: [jq, .price], protocol: once}", fields{
				"args":     d.texts(&c.Args),
				"protocol": d.text(&c.Protocol),
				"output":   d.text(&c.Output),
			})
		}
	}
}

func listOfWords(text string) string {
	return "[" + strings.Join(strings.Fields(shorten(text)), ", ") + "]"
}

// programType returns the node type of a node that names none: the name of its program.
func programType(n *Node) string {
	switch {
	case n.Wasm != nil && n.Wasm.Module != "":
		return strings.TrimSuffix(filepath.Base(n.Wasm.Module), ".wasm")
	case n.Wasm != nil:
		return "wasm"
	case n.Command != nil && len(n.Command.Args) > 0 && n.Command.Args[0] != "":
		return filepath.Base(n.Command.Args[0])
	case n.Command != nil:
		return "command"
	}
	return ""
}

// checkProgram checks the module or the executable of a node, and the fields that it cannot
// have.
func checkProgram(r *report, base folder, path string, n *Node) {
	var what string
	switch {
	case n.Wasm != nil && n.Command != nil:
		r.problem(path+".command", "the node has wasm already; a node is one of the two")
		return
	case n.Wasm != nil:
		what = "a module of WebAssembly"
		checkWord(r, path+".wasm.format", n.Wasm.Format, wasmFormats)
		if n.Wasm.Module == "" {
			r.problem(path+".wasm", "must name the file of a module")
		} else if err := base.checkRegular(n.Wasm.Module); err != nil {
			r.problem(path+".wasm", "%v", err)
		}
		if len(n.Env) > 0 || len(n.PassEnv) > 0 {
			r.problem(path+".wasm", "a module of WebAssembly has no environment; remove env and pass_env")
		}
		if n.Isolation != nil {
			r.problem(path+".isolation", "a module of WebAssembly has no access to anything; leave it out")
		}
		checkModuleBounds(r, path, n)
	case n.Command != nil:
		what = "a command"
		checkCommand(r, path, n)
	default:
		return
	}
	if n.Python != "" {
		r.problem(path+".python", "the node is %s; leave python out", what)
	}
	if len(n.Requirements) > 0 || n.Interpreter != "" {
		r.problem(path, "the node is %s, which has no Python environment; leave requirements and interpreter out", what)
	}
	if len(n.Params) > 0 {
		r.problem(path+".params", "%s takes no params; let its input or its arguments hold them", what)
	}
}

// checkModuleBounds refuses the limits and settings of workers that are those of processes.
func checkModuleBounds(r *report, path string, n *Node) {
	l, w, usual := n.Limits, n.Workers, DefaultWorkers()
	for _, limit := range []struct {
		name string
		set  bool
		hint string
	}{
		{"resident", l.Resident != 0, "limits.memory bounds its memory"},
		{"resident_soft", l.ResidentSoft != 0, "limits.memory bounds its memory"},
		{"cpu_time", l.CPUTime != 0, "timeout bounds its time"},
		{"open_files", l.OpenFiles != 0, "it opens no files"},
		{"threads", l.Threads != 0, "it has one thread"},
	} {
		if limit.set {
			r.problem(path+".limits."+limit.name, "a module of WebAssembly is no process; %s", limit.hint)
		}
	}
	for _, setting := range []struct {
		name string
		set  bool
	}{
		{"spare", w.Spare > usual.Spare}, {"scale_after", w.ScaleAfter != usual.ScaleAfter},
		{"max_age", w.MaxAge != 0}, {"max_calls", w.MaxCalls != 0},
		{"fork_server", w.ForkServer}, {"threads", w.Threads != 0},
	} {
		if setting.set {
			r.problem(path+".workers."+setting.name, "a module of WebAssembly has instances, not workers: they have min, max and idle_timeout")
		}
	}
}

// checkCommand checks an executable, and the fields that only nodes in Python have.
func checkCommand(r *report, path string, n *Node) {
	c, w, defaults := n.Command, n.Workers, DefaultWorkers()
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"workers.spare", w.Spare > defaults.Spare},
		{"workers.scale_after", w.ScaleAfter != defaults.ScaleAfter},
		{"workers.fork_server", w.ForkServer},
		{"workers.threads", w.Threads != 0},
		{"limits.resident_soft", n.Limits.ResidentSoft != 0},
	} {
		if field.set {
			r.problem(path+"."+field.name, "is for nodes in Python; leave it out")
		}
	}
	if n.Isolation != nil {
		r.problem(path+".isolation", "a command cannot be isolated; leave it out, or run the program by one that confines it, such as bwrap")
	}
	path += ".command"
	checkWord(r, path+".protocol", c.Protocol, protocols)
	checkWord(r, path+".output", c.Output, commandOutputs)
	if c.Output != commandOutputs[0] && c.Protocol != "once" {
		r.problem(path+".output", "is for the protocol once")
	}
	if len(c.Args) == 0 || c.Args[0] == "" {
		r.problem(path, "must name a program")
	}
	for _, arg := range c.Args {
		if strings.ContainsRune(arg, 0) {
			r.problem(path, "must not contain a NUL byte")
		}
	}
}

// checkWord checks that a text is one of a few words.
func checkWord(r *report, path, text string, words []string) {
	if !slices.Contains(words, text) {
		r.problem(path, "%q is not one of %s", shorten(text), strings.Join(words, ", "))
	}
}
