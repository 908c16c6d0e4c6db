// Command hops lists the functions that one call passes through in gophersnake, as one
// would step through them with a debugger: from Runner.Run to the worker's node function
// and back. It can also list those of one stream item, from Stream.Send to Stream.Recv.
//
//	go run ./scripts/hops                 a call
//	go run ./scripts/hops --stream        a stream item
//	go run ./scripts/hops --all           all functions, indented by depth, with * for stops
//	go run ./scripts/hops --lengths       the lengths of all functions, without tracing
//	go run ./scripts/hops --json          the stops, or the lengths, as JSON
//	go run ./scripts/hops --dir ../other  of another checkout
//
// It needs Go and a Python interpreter, but no debugger. It builds a program in which each
// function of the checkout's packages records when it is entered and left. The build uses
// go build -overlay, which leaves the checkout unchanged. The program's node turns on the
// profiler of the worker's interpreter. The program makes 100 calls to warm up and then 51
// traced calls, one after the other. A stream's consumer waits in Recv before an item is
// sent. The list shows the path that most of the traced calls took.
//
// # What is counted
//
// The list is in the order of time. The worker's functions stand together, at the time when
// the call's frame arrived, and end with the send of its result. Functions that run on a
// timer, such as the watchdog's check, are left out, because they run beside the call.
//
// A stop is a function that control enters from another file, goroutine or process. A
// function that is called from its own file is no stop. Each stop counts once, at its first
// such entry. A return to a function is no entry, unless the function was waiting for the
// call when it came, as the worker's loop does. A function of at most 20 lines (--trivial)
// that calls no other function of the project is no stop, because its name is enough for a
// reader. The node function is a stop whatever its length.
//
// A jump back is a stop in a file that had a stop before, with stops in other files
// between the two.
//
// The length of a function counts the lines of its declaration, including its docstring and
// its function literals, but neither its doc comment nor its decorators. Tests, test data
// and generated environments are left out.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

//go:embed recorder/recorder.go program
var embedded embed.FS

// nodeFile is the file of the traced node.
const nodeFile = "nodes.py"

// settings are the values of the flags.
type settings struct {
	dir, python                string
	stream, all, json, lengths bool
	trivial                    int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "hops:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, messages io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("hops", flag.ContinueOnError)
	flags.SetOutput(messages)
	flags.StringVar(&s.dir, "dir", ".", "the checkout to trace")
	flags.StringVar(&s.python, "python", "python3", "the interpreter")
	flags.BoolVar(&s.stream, "stream", false, "trace a stream item, not a call")
	flags.BoolVar(&s.all, "all", false, "list all functions that are entered, with the stops marked")
	flags.BoolVar(&s.json, "json", false, "print JSON")
	flags.BoolVar(&s.lengths, "lengths", false, "print the lengths of the functions instead of tracing")
	flags.IntVar(&s.trivial, "trivial", longestTrivial, "the `lines` up to which a function that calls no other one is no stop")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if s.lengths {
		return s.printLengths(out)
	}
	work, err := os.MkdirTemp("", "hops-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	functions, err := s.trace(ctx, work)
	if err != nil {
		return err
	}
	events, err := readEvents(work, functions)
	if err != nil {
		return err
	}
	var paths []path
	for _, visits := range traced(events) {
		paths = append(paths, follow(visits, functions, s.trivial))
	}
	best, alike := mostCommon(paths)
	if s.json {
		return printJSON(out, best)
	}
	if s.all {
		best.printAll(out, functions)
	}
	best.print(out, alike, len(paths))
	return nil
}

// trace builds the program and runs it. The program writes its records to the folder work.
// trace returns the functions that the records refer to by index.
func (s settings) trace(ctx context.Context, work string) ([]function, error) {
	list, functions, err := overlay(s.dir, work)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{nodeFile, "pipeline.yaml"} {
		text, err := embedded.ReadFile("program/" + name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(work, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	files, err := sourceFiles(filepath.Join(s.dir, "pyworker"), ".py")
	if err != nil {
		return nil, err
	}
	worker, err := pythonFunctions(s.python, s.dir, inFolder("pyworker", files))
	if err != nil {
		return nil, err
	}
	node, err := pythonFunctions(s.python, work, []string{nodeFile})
	if err != nil {
		return nil, err
	}
	functions = append(append(functions, worker...), node...)

	program := filepath.Join(work, "program")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", program, "./scripts/hops/program")
	build.Dir = s.dir
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the traced program: %w\n%s", err, output)
	}
	kind := "call"
	if s.stream {
		kind = "stream"
	}
	traced := exec.CommandContext(ctx, program, kind, work, s.python)
	if output, err := traced.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run the traced program: %w\n%s", err, output)
	}
	return functions, nil
}

func inFolder(folder string, files []string) []string {
	var in []string
	for _, name := range files {
		in = append(in, folder+"/"+name)
	}
	return in
}

// print writes the stops, a line each, and their number.
func (p path) print(out io.Writer, alike, of int) {
	for i, s := range p.Stops {
		mark := "  "
		if s.Jump {
			mark = "<-"
		}
		fmt.Fprintf(out, "%3d %s %-6s %-48s %s\n", i+1, mark, s.Language, s.File, s.Function)
	}
	fmt.Fprintf(out, "%d stops in %d files, %d jumps back (<-); %d functions entered; %d of %d traced took this path\n",
		len(p.Stops), p.Files, p.Jumps, p.Functions, alike, of)
}

// printAll writes each function at its first entry, indented by the depth of its calls.
func (p path) printAll(out io.Writer, functions []function) {
	isStop, isPrinted := map[int]bool{}, map[int]bool{}
	for _, s := range p.Stops {
		isStop[s.index] = true
	}
	for _, v := range p.visits {
		if isPrinted[v.function] {
			continue
		}
		isPrinted[v.function] = true
		f, mark := functions[v.function], " "
		if isStop[v.function] {
			mark = "*"
		}
		fmt.Fprintf(out, "%s %s%s %s (%d lines)\n", mark, strings.Repeat("  ", v.depth), f.File, f.Name, f.Lines)
	}
	fmt.Fprintln(out)
}

func (s settings) printLengths(out io.Writer) error {
	goFiles, err := sourceFiles(s.dir, ".go")
	if err != nil {
		return err
	}
	golang, err := goFunctions(s.dir, goFiles)
	if err != nil {
		return err
	}
	pythonFiles, err := sourceFiles(s.dir, ".py")
	if err != nil {
		return err
	}
	python, err := pythonFunctions(s.python, s.dir, pythonFiles)
	if err != nil {
		return err
	}
	all := map[string]lengths{"go": measure(golang), "python": measure(python), "both": measure(append(golang, python...))}
	if s.json {
		return printJSON(out, all)
	}
	for _, name := range []string{"go", "python", "both"} {
		l := all[name]
		fmt.Fprintf(out, "%-6s %4d functions, the longest %d lines (%s), p90 %d lines\n", name, l.Functions, l.Longest, l.Name, l.P90)
	}
	return nil
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
