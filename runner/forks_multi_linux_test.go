package runner_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// permissions are what an isolated node may do, as the hints of errors recommend it.
type permissions struct{ processes, shm, network bool }

func (p permissions) String() string {
	var parts []string
	if p.processes {
		parts = append(parts, "processes: any")
	}
	if p.shm {
		parts = append(parts, "write: [/dev/shm]")
	}
	if p.network {
		parts = append(parts, "network: true")
	}
	return "isolation: {" + strings.Join(parts, ", ") + "}"
}

// follow adds what a hint recommends in the manifest, and reports whether that is anything
// new. Of several recommendations it follows the first.
func (p *permissions) follow(hint string) bool {
	before := *p
	first := len(hint)
	for setting, permission := range map[string]*bool{
		"isolation.processes": &p.processes, "isolation.write": &p.shm, "isolation.network": &p.network,
	} {
		if i := strings.Index(hint, setting); i >= 0 && i < first {
			first = i
			*p = before
			*permission = true
		}
	}
	return *p != before
}

// multi is a construct that starts processes or shares something with them, and what an
// isolated node needs for it.
type multi struct {
	what  []any
	needs permissions
}

var (
	processes        = permissions{processes: true}
	processesAndUnix = permissions{processes: true, network: true}
)

func multiprocessing() (all []multi) {
	for _, construct := range []string{
		"Process", "Pipe", "SimpleQueue", "Lock", "Lock of one process", "Event, Barrier", "Queue", "Pool", "ThreadPool",
		"ProcessPoolExecutor", "SharedMemory", "Array", "Manager", "terminate",
	} {
		for _, method := range []string{"fork", "spawn", "forkserver"} {
			needs := processes
			alone := construct == "Lock of one process" || construct == "ThreadPool" || construct == "Array"
			if construct == "Manager" || method == "forkserver" && !alone {
				needs = processesAndUnix
			}
			all = append(all, multi{[]any{construct, method}, needs})
		}
	}
	return all
}

// multiNode starts node use of a file, once for each of its settings.
type multiNode struct {
	t            *testing.T
	options      []runner.Option
	requirements string
	file         string
	started      map[string]*runner.Runner
}

func (n *multiNode) run(settings string, what []any) error {
	r := n.started[settings]
	if r == nil {
		var err error
		r, err = loadIn(n.t, n.base(), n.requirements+single("use", "python: "+n.file, "retry: none", "breaker: none", settings), n.options...)
		require.NoError(n.t, err)
		n.started[settings] = r
	}
	got, err := r.Run(n.t.Context(), what)
	if err == nil {
		assert.Equal(n.t, true, got, "%v with %s", what, settings)
	}
	return err
}

func (n *multiNode) base() string {
	base, err := filepath.Abs("testdata/forks")
	require.NoError(n.t, err)
	return base
}

// assertWorks asserts that a construct works without isolation and under the fork server,
// and in a strictly isolated node once all hints have been followed, which ask for no more
// than the construct needs.
func (n *multiNode) assertWorks(m multi) {
	for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", m.needs.String()} {
		assert.NoError(n.t, n.run(settings, m.what), "%v with %s", m.what, settings)
	}
	var may permissions
	for {
		err := n.run(may.String(), m.what)
		if err == nil {
			break
		}
		hint := asError(n.t, err).Hint
		if !assert.True(n.t, may.follow(hint), "%v with %s: %v\nhint: %s", m.what, may, err, hint) {
			return
		}
	}
	assert.Equal(n.t, m.needs, may, "%v", m.what)
}

func TestMultiprocessingWorksOrItsHintDoes(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	n := &multiNode{t: t, file: "multi.py", started: make(map[string]*runner.Runner)}
	for _, each := range multiprocessing() {
		n.assertWorks(each)
	}
}

// A user without privileges cannot mount a /dev/shm for a node.
func TestMultiprocessingOfAnotherUserWorksOrItsHintDoes(t *testing.T) {
	python, here := testkit.Unprivileged(t, "testdata")
	if !here {
		return
	}
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	n := &multiNode{t: t, file: "multi.py", options: unprivileged(t, python, &recorder{}), started: make(map[string]*runner.Runner)}
	for _, each := range multiprocessing() {
		if os.Getuid() != 0 && !slices.Contains([]any{"Process", "Pipe", "Manager", "terminate"}, each.what[0]) {
			each.needs.shm = true
		}
		n.assertWorks(each)
	}
}

func TestJoblibWorksOrItsHintDoes(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	n := &multiNode{t: t, file: "parallel.py", requirements: "requirements: [numpy==2.2.6, joblib==1.5.1]\n", started: make(map[string]*runner.Runner)}
	for _, each := range []multi{
		{[]any{"loky"}, permissions{}}, {[]any{"multiprocessing"}, permissions{}}, {[]any{"threading"}, permissions{}},
	} {
		n.assertWorks(each)
		assert.NoError(t, n.run(processes.String(), each.what), "%v", each.what)
	}
	for _, settings := range []string{"timeout: 1m", "workers: {fork_server: true}", processes.String()} {
		r, err := loadIn(t, n.base(), n.requirements+single("reuse", "python: "+n.file, settings))
		require.NoError(t, err)
		for range 2 {
			got, err := r.Run(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, []any{int64(3), int64(4), int64(5), int64(6)}, got)
		}
	}
}
