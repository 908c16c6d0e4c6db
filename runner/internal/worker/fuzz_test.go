package worker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDump checks that any exit report can be parsed: no stack is invented, and each
// frame occurs in the dump.
func FuzzDump(f *testing.F) {
	f.Add("Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n"+
		"  File \"/pipeline/nodes.py\", line 12 in crash\n  File \"/package/gophersnake/__main__.py\", line 3 in <module>\n", true)
	f.Add("Thread 0x00007f [python3] (most recent call first):\n  File \"/a \\u20ac\\xe4\\udc80\\U0010ffff.py\", line ??? in f\n"+
		"\nStack (most recent call first):\n  File \"x\", line 99999999999999999999 in \n", false)
	f.Add("Current thread's C stack trace (most recent call first):\n  Binary file \"/lib/libc.so\", at raise+0x10 [0x7f]\n", false)
	f.Add("Stack (most recent call first):\n  File \"\\UffffffFF\", line 1 in \\ud800\n  ...\n", true)
	f.Fuzz(func(t *testing.T, dump string, forced bool) {
		const folder = "/package/gophersnake"
		written := strings.Count(dump, "  File \"")
		frames := 0
		for _, s := range parseStacks(dump, folder) {
			frames += len(s.frames)
			if s.serves {
				require.Contains(t, dump, "__main__.py")
			}
		}
		require.LessOrEqual(t, frames, written)
		for _, frame := range parseDump(dump, folder, forced, nil) {
			require.NotContains(t, frame.File, "\n")
			if !strings.Contains(frame.File, `\`) && !strings.Contains(dump, `\`) {
				require.Contains(t, dump, frame.File)
			}
		}
	})
}

// FuzzStderr checks that go-plugin reads no line that makes it panic: it assumes that
// these keys of a log record hold strings.
func FuzzStderr(f *testing.F) {
	f.Add([]byte(`{"@message": 1}`))
	f.Add([]byte(`{"@message": "m", "@level": "info", "@timestamp": null}`))
	f.Add([]byte("\ufeff{\"@level\": []}"))
	f.Add([]byte("\u0085{\"@level\": []}"))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if panicsGoPlugin(line) {
			return
		}
		var record map[string]any
		if json.Unmarshal(line, &record) != nil {
			return
		}
		for _, key := range []string{"@message", "@level", "@timestamp"} {
			if held, ok := record[key]; ok {
				require.IsType(t, "", held)
			}
		}
	})
}
