package worker

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/ipc"
)

// stack is one thread's in faulthandler's dump.
type stack struct {
	current bool // the thread on which the signal landed
	serves  bool // the thread that serves calls
	frames  []ipc.TracebackFrame
}

var dumpLine = regexp.MustCompile(`^  File "(.*)", line (\d+|\?\?\?) in (.*)$`)

// stackHead is what stands over a stack of Python's. Python 3.14 writes a stack
// of C's as well, under "Current thread's C stack trace".
var stackHead = regexp.MustCompile(`^(Current thread|Thread|Stack)( 0x[0-9a-f]+)?( \[.*\])? \(most recent call first\):`)

// parseDump finds in faulthandler's dump the stack that tells what happened.
// Where the interpreter was made to die, that is the one that serves calls: node
// code runs on it, whichever thread the signal landed on. Where it died by
// itself, it is the one on which the signal landed.
func parseDump(dump, packageDir string, made bool) []ipc.TracebackFrame {
	var first, second []ipc.TracebackFrame
	for _, s := range parseStacks(dump, packageDir) {
		if made && s.serves || !made && s.current {
			first = s.frames
		} else if s.serves || s.current {
			second = s.frames
		}
	}
	if len(first) == 0 {
		first = second
	}
	for i := range first {
		first[i].Source = sourceLine(first[i].File, first[i].Line)
	}
	return first
}

func parseStacks(dump, packageDir string) []stack {
	var stacks []stack
	inStack := false
	lines := bufio.NewScanner(strings.NewReader(dump))
	lines.Buffer(nil, maxDump)
	for lines.Scan() {
		line := lines.Text()
		if m := dumpLine.FindStringSubmatch(line); m != nil && inStack {
			n, _ := strconv.Atoi(m[2]) // ??? becomes 0: not known
			s := &stacks[len(stacks)-1]
			s.frames = append(s.frames, ipc.TracebackFrame{File: unescape(m[1]), Line: n, Function: unescape(m[3])})
			continue
		}
		if m := stackHead.FindStringSubmatch(line); m != nil {
			inStack = true
			stacks = append(stacks, stack{current: m[1] != "Thread"})
		} else if !strings.HasPrefix(line, "  ") {
			inStack = false
		}
	}
	for i := range stacks {
		stacks[i].frames, stacks[i].serves = nodeFrames(stacks[i].frames, packageDir)
	}
	return stacks
}

// nodeFrames turns a stack around, the outermost frame first, and leaves out
// the worker's own frames and what runs them. It reports whether the stack is
// the one that serves calls.
func nodeFrames(stack []ipc.TracebackFrame, packageDir string) ([]ipc.TracebackFrame, bool) {
	end := len(stack)
	serves := false
	for i, f := range stack {
		if !inFolder(f.File, packageDir) {
			continue
		}
		end = min(end, i)
		// A thread of the worker's own does not begin there.
		serves = serves || f.File == filepath.Join(packageDir, "__main__.py")
	}
	if end == 0 {
		end = len(stack) // the worker itself failed, and its own frames tell where
	}
	frames := make([]ipc.TracebackFrame, 0, end)
	for i := end - 1; i >= 0; i-- {
		frames = append(frames, stack[i])
	}
	return frames, serves
}

func inFolder(file, folder string) bool {
	return folder != "" && strings.HasPrefix(file, folder+string(os.PathSeparator))
}

var escape = regexp.MustCompile(`\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})`)

// unescape undoes how faulthandler writes what is not ASCII. A byte that is no
// UTF-8 is a lone surrogate in Python.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return escape.ReplaceAllStringFunc(s, func(code string) string {
		n, _ := strconv.ParseUint(code[2:], 16, 32) // it is hexadecimal
		if n >= 0xdc80 && n <= 0xdcff {
			return string([]byte{byte(n)})
		}
		return string(utf8.AppendRune(nil, rune(n)))
	})
}

// sourceLine returns one line of a source file, or nothing. What a code object
// names as its file need not be one.
func sourceLine(file string, n int) string {
	if !filepath.IsAbs(file) {
		return "" // relative to a folder that is not known
	}
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for i := 1; lines.Scan(); i++ {
		if i == n {
			return strings.TrimSpace(lines.Text())
		}
	}
	return ""
}
