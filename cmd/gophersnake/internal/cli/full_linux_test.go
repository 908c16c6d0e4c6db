package cli

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/pyworker"
)

// halfWritten matches names of files and folders that are written before they are renamed
// or completed.
var halfWritten = regexp.MustCompile(`(^|/)(\.new-|\.doctor-|\.gophersnake|\.[A-Z2-7]{26}|envs/[^/.]+|gophersnake-\d+|\.[0-9a-f]+\.json-)`)

// assertNothingHalfWritten checks that a failed command has left no such files.
func assertNothingHalfWritten(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		assert.NotRegexp(t, halfWritten, strings.TrimPrefix(path, dir))
		return err
	}))
}

const (
	otherCache  = "choose another folder with --cache-dir or GOPHERSNAKE_CACHE\n"
	freeSpace   = "hint: free disk space, for instance with `gophersnake env prune`, or " + otherCache
	freeInodes  = "hint: remove files, for instance with `gophersnake env prune`, or " + otherCache
	writable    = "hint: make the folder writable, or " + otherCache
	otherTMPDIR = "hint: set TMPDIR to a folder that exists, can be written, and has free space and inodes, such as /tmp\n"
)

// A full file system, or one without inodes, or one that cannot be written, is named with
// the folder, and what the hint says helps.
func TestFileSystemsThatCannotBeWritten(t *testing.T) {
	if !fixtures.WithMounts(t) {
		return
	}
	fixtures.Chdir(t, map[string]string{
		"nodes.py": fixtures.Nodes, "pipeline.yaml": "version: v1\npython: nodes.py\nnodes: [{id: n, node_type: echo}]\n",
	})
	working := t.TempDir() // a cache folder that has all that the pipeline needs
	require.Zero(t, command(t, "run", "pipeline.yaml", "-i", "1", "--cache-dir", working).code)
	run := func(more ...string) []string {
		return append([]string{"run", "pipeline.yaml", "-i", "1", "-o", "pretty"}, more...)
	}
	cache := func(dir string) []string { return run("--cache-dir", dir) }
	for _, c := range []struct {
		name, options string
		prepare       func(dir string)                        // the file system
		args          func(t *testing.T, dir string) []string // may set variables
		code          int
		want          []string
		follow        func(t *testing.T) []string // what the hint says
	}{
		{"no space for the worker", "size=64k", nil, func(_ *testing.T, dir string) []string { return cache(dir) }, 7,
			[]string{"error: io error during prepare the environment: cannot unpack the worker's Python package: ", "DIR/pyworker/", "no space left on device", freeSpace},
			func(t *testing.T) []string { return cache(t.TempDir()) }},
		{"no inode for the worker", "nr_inodes=10", nil, func(_ *testing.T, dir string) []string { return cache(dir) }, 7,
			[]string{"cannot unpack the worker's Python package: ", "DIR/pyworker/", "no space left on device"},
			func(t *testing.T) []string { return cache(t.TempDir()) }},
		{"a cache that is read-only", "", func(dir string) { fixtures.MakeReadOnly(t, dir) }, func(_ *testing.T, dir string) []string { return cache(dir) }, 7,
			[]string{"cannot unpack the worker's Python package: mkdir DIR/pyworker: read-only file system\n" + writable},
			func(t *testing.T) []string { return cache(t.TempDir()) }},
		{"a home folder that is read-only", "", func(dir string) { fixtures.MakeReadOnly(t, dir) }, func(t *testing.T, dir string) []string {
			t.Setenv("UV_CACHE_DIR", filepath.Join(t.TempDir(), "uv"))
			t.Setenv("HOME", dir)
			t.Setenv("XDG_CACHE_HOME", "")
			t.Setenv("GOPHERSNAKE_CACHE", "")
			return run()
		}, 7, []string{"cannot unpack the worker's Python package: mkdir DIR/.cache: read-only file system\n" + writable},
			func(t *testing.T) []string { return cache(t.TempDir()) }},
		{"no space for the environment", "size=1200k", nil, func(_ *testing.T, dir string) []string { return cache(dir) }, 7,
			[]string{"cannot install msgpack: DIR: the file system is full (", freeSpace},
			func(t *testing.T) []string { return cache(t.TempDir()) }},
		// An empty environment has fewer than 45 files, and one with msgpack has more.
		{"no inode for the environment", fmt.Sprintf("nr_inodes=%d", workerInodes(t)+45), nil, func(_ *testing.T, dir string) []string { return cache(dir) }, 7,
			[]string{"cannot install msgpack: DIR: the file system has no inode left for another file (", freeInodes},
			func(t *testing.T) []string { return cache(t.TempDir()) }},
		{"a full cache that has everything", "size=20m", func(dir string) {
			require.Zero(t, command(t, cache(dir)...).code)
			fixtures.Fill(t, dir)
		}, func(_ *testing.T, dir string) []string { return cache(dir) }, 0, nil, nil},
		{"a read-only cache that has everything", "size=20m", func(dir string) {
			require.Zero(t, command(t, cache(dir)...).code)
			fixtures.MakeReadOnly(t, dir)
		}, func(_ *testing.T, dir string) []string { return cache(dir) }, 0, nil, nil},
		{"a cache of uv that cannot be written", "", func(dir string) { fixtures.MakeReadOnly(t, dir) }, func(t *testing.T, dir string) []string {
			t.Setenv("UV_CACHE_DIR", dir+"/uv")
			return cache(t.TempDir())
		}, 0, nil, nil},
		{"a cache of uv that is full", "size=64k", nil, func(t *testing.T, dir string) []string {
			t.Setenv("UV_CACHE_DIR", dir+"/uv")
			return cache(t.TempDir())
		}, 7, []string{": DIR/uv: the file system is full (", "hint: free space there with `uv cache clean`, or choose another folder with UV_CACHE_DIR\n"},
			func(t *testing.T) []string {
				t.Setenv("UV_CACHE_DIR", t.TempDir())
				return cache(t.TempDir())
			}},
		{"no inode for temporary files", "nr_inodes=9", func(dir string) { fixtures.FillInodes(t, dir, 0) }, temporary(working), 7,
			[]string{`error: io error in node "n" during start: the folder for temporary files, DIR, cannot be used: no space left on device`, otherTMPDIR}, inTMP(working)},
		{"one inode for temporary files", "nr_inodes=9", func(dir string) { fixtures.FillInodes(t, dir, 1) }, temporary(working), 7,
			[]string{`error: io error in node "n" during start: the folder for temporary files, DIR, cannot be used: no space left on device`, otherTMPDIR}, inTMP(working)},
		{"two inodes for temporary files", "nr_inodes=9", func(dir string) { fixtures.FillInodes(t, dir, 2) }, temporary(working), 7,
			[]string{`error: io error in node "n" during start: the folder for temporary files, DIR, cannot be used: no space left on device`, otherTMPDIR}, inTMP(working)},
		{"temporary files that cannot be written", "", func(dir string) { fixtures.MakeReadOnly(t, dir) }, temporary(working), 7,
			[]string{`error: io error in node "n" during start: the folder for temporary files, DIR, cannot be used: read-only file system`, otherTMPDIR}, inTMP(working)},
		{"no space for temporary files, which need none", "size=4k", func(dir string) { fixtures.Fill(t, dir) }, temporary(working), 0, nil, nil},
		{"no space for the output", "size=4k", func(dir string) { fixtures.Fill(t, dir) }, func(_ *testing.T, dir string) []string {
			return append(cache(working)[:4], "--cache-dir", working, "-o", dir+"/out.json")
		}, 7, []string{"io error: write DIR/out.json: no space left on device", "free space or inodes there, or name a file in another folder"},
			func(t *testing.T) []string {
				return append(cache(working)[:4], "--cache-dir", working, "-o", t.TempDir()+"/out.json")
			}},
		{"an output that cannot be written", "", func(dir string) { fixtures.MakeReadOnly(t, dir) }, func(_ *testing.T, dir string) []string {
			return append(cache(working)[:4], "--cache-dir", working, "-o", dir+"/out.json")
		}, 7, []string{"io error: write DIR/out.json: read-only file system", "name a file in a folder that can be written"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fixtures.Mount(t, c.options)
			if c.prepare != nil {
				c.prepare(dir)
			}
			got := command(t, c.args(t, dir)...)
			assert.Equal(t, c.code, got.code, got.err)
			for _, want := range c.want {
				assert.Contains(t, strings.ReplaceAll(got.err, dir, "DIR"), want)
			}
			if c.code != 0 {
				assertNothingHalfWritten(t, dir)
			}
			if c.follow != nil {
				got = command(t, c.follow(t)...)
				assert.Zero(t, got.code, "the hint: %s", got.err)
			}
		})
	}
}

// temporary returns the command that uses a folder for temporary files.
func temporary(cache string) func(t *testing.T, dir string) []string {
	return func(t *testing.T, dir string) []string {
		t.Setenv("TMPDIR", dir)
		return []string{"run", "pipeline.yaml", "-i", "1", "--cache-dir", cache}
	}
}

// inTMP follows the hint about TMPDIR.
func inTMP(cache string) func(t *testing.T) []string {
	return func(t *testing.T) []string { return temporary(cache)(t, "/tmp") }
}

// workerInodes returns how many files and folders the worker's Python package has.
func workerInodes(t *testing.T) int {
	t.Helper()
	dir, _, err := pyworker.Extract(t.TempDir())
	require.NoError(t, err)
	n := 0
	require.NoError(t, filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil }))
	return n
}
