package worker

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/ipc"
)

// stack is the stack of one thread in faulthandler's dump.
type stack struct {
	current bool // of the thread that received the signal
	serves  bool // of the main thread, which runs the node's code unless other threads do
	calls   bool // of another thread that runs the node's code
	frames  []ipc.TracebackFrame
}

var dumpLine = regexp.MustCompile(`^  File "(.*)", line (\d+|\?\?\?) in (.*)$`)

// stackHead is the line above a Python stack. Python 3.14 also writes C stacks, below
// "Current thread's C stack trace".
var stackHead = regexp.MustCompile(`^(Current thread|Thread|Stack)( 0x[0-9a-f]+)?( \[.*\])? \(most recent call first\):`)

// parseDump returns the stack in faulthandler's dump that explains the end, the
// outermost frame first. An end that the supervisor forced is explained by the thread
// that runs the node's code, whichever thread received the signal; if several do, it cannot
// be known which of them, and there is no stack. An interpreter that died by itself did so on
// the thread that received the signal. The source lines are read
// as readSource says. The dump is the word of the process, which may be hostile.
func parseDump(dump, packageDir string, forced bool, folders []string) []ipc.TracebackFrame {
	var best, fallback []ipc.TracebackFrame
	stacks := parseStacks(dump, packageDir)
	if forced {
		calling := slices.DeleteFunc(slices.Clone(stacks), func(s stack) bool { return !s.calls })
		if len(calling) > 1 {
			return nil
		}
		if len(calling) == 1 {
			stacks = calling
		}
	}
	for _, s := range stacks {
		if forced && s.serves || !forced && s.current {
			best = s.frames
		} else if s.serves || s.current {
			fallback = s.frames
		}
	}
	if len(best) == 0 {
		best = fallback
	}
	if len(best) > maxFrames {
		best = best[len(best)-maxFrames:]
	}
	for i := range best {
		best[i].Source = sourceLine(best[i].File, best[i].Line, folders)
	}
	return best
}

// maxFrames is how many frames of a stack are kept. faulthandler writes no more.
const maxFrames = 100

// parseStacks returns all Python stacks in a dump.
func parseStacks(dump, packageDir string) []stack {
	var stacks []stack
	inStack := false
	lines := bufio.NewScanner(strings.NewReader(dump))
	lines.Buffer(nil, maxDump)
	for lines.Scan() {
		line := lines.Text()
		if m := dumpLine.FindStringSubmatch(line); m != nil && inStack {
			n, _ := strconv.Atoi(m[2]) // ??? becomes 0, for unknown
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
		stacks[i].place(packageDir)
	}
	return stacks
}

// place reverses a stack, so that the outermost frame comes first, and drops the worker's own
// frames and those below them. It sets what the thread runs.
func (s *stack) place(packageDir string) {
	end := len(s.frames)
	threads := filepath.Join(packageDir, "gophersnake", "_worker", "serving", "threadloop.py")
	for i, f := range s.frames {
		if !inFolder(f.File, packageDir) {
			continue
		}
		end = min(end, i)
		// The worker's other threads do not begin there.
		s.serves = s.serves || f.File == filepath.Join(packageDir, "__main__.py")
		s.calls = s.calls || f.File == threads && f.Function == "_call"
	}
	s.serves = s.serves || s.calls
	if end > 0 {
		s.frames = s.frames[:end] // otherwise the worker itself failed, so its own frames are shown
	}
	slices.Reverse(s.frames)
}

func inFolder(file, folder string) bool {
	return folder != "" && strings.HasPrefix(file, folder+string(os.PathSeparator))
}

var escape = regexp.MustCompile(`\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})`)

// unescape undoes faulthandler's escapes of characters that are not ASCII. A byte that
// is not valid UTF-8 is a lone surrogate in Python.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return escape.ReplaceAllStringFunc(s, func(code string) string {
		n, _ := strconv.ParseUint(code[2:], 16, 32) // cannot fail: the pattern matched hexadecimal digits
		if n >= 0xdc80 && n <= 0xdcff {
			return string([]byte{byte(n)})
		}
		return string(utf8.AppendRune(nil, rune(n)))
	})
}

// maxSource is how many bytes of a source file are searched for a line.
const maxSource = 1 << 20

// sourceLine returns one line of a source file, empty if it cannot be read. An isolated
// process could name a file that the supervisor may read and the process may not, so its
// source is read only in the folders that the process may read. All folders are allowed if
// folders is nil.
func sourceLine(file string, n int, folders []string) string {
	if !filepath.IsAbs(file) {
		return "" // relative to an unknown folder
	}
	f, err := openSource(filepath.Clean(file), folders)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	lines := bufio.NewScanner(io.LimitReader(f, maxSource))
	for i := 1; lines.Scan(); i++ {
		if i == n {
			return strings.TrimSpace(lines.Text())
		}
	}
	return ""
}

// openSource opens a file for [sourceLine], without waiting for one that is a pipe. No
// symbolic link leads out of the folders.
func openSource(file string, folders []string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	if folders == nil {
		return os.OpenFile(file, flags, 0)
	}
	for _, folder := range folders {
		if !inFolder(file, folder) {
			continue
		}
		root, err := os.OpenRoot(folder)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return root.OpenFile(file[len(folder)+1:], flags, 0)
	}
	return nil, os.ErrPermission
}
