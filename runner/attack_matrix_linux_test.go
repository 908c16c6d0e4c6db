package runner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

// hostileFolder holds the attacks. The command chaos makes them, too.
const hostileFolder = "../scripts/chaos/python/hostile"

// attack is a row of the attack matrix: what a hostile node tries in a call.
type attack struct {
	does string // in words; "a node" comes before it
	way  string // the function in hostileFolder that does it
	stop string // what stops it
	want outcome
	says string // a part of the error's text, or of the text that the node returns

	open   bool     // the node is not isolated
	quick  bool     // the deadline of the call is short, because the node waits for it
	limits string   // of the attacker
	more   []string // other lines of the manifest
	// check is called with what the test has seen. It returns what the operator sees, if
	// that is neither the error nor the node's answer.
	check func(*testing.T, *attacked) string
}

// attacked is what a row of the matrix has seen.
type attacked struct {
	observation
	answer  any // of the attacker
	failure *runner.Error
	file    string
	took    time.Duration
	log     *lockedBuffer
	events  *recorder
	runner  *runner.Runner
}

// ended is the outcome if the supervisor ends the worker because it violates the protocol.
func ended() outcome { return broke("SIGABRT", "").and(unrepeated) }

// unrepeated changes an outcome to that of a node without retries.
func unrepeated(f *outcome) { f.retried = false }

func attackMatrix(attacks []attack) part {
	seen := make([]string, len(attacks))
	var p part
	for i, a := range attacks {
		p.add(a.does, func(t *testing.T) { seen[i] = a.observe(t) })
	}
	p.table = func() string {
		var b strings.Builder
		b.WriteString("| a node | what stops it | the call | worker | what the operator sees |\n| --- | --- | --- | --- | --- |\n")
		for i, a := range attacks {
			call := "succeeds"
			if !a.want.succeeds {
				call = fmt.Sprintf("`%v`", a.want.kind)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", a.does, a.stop, call, choice(a.want.replaced, "replaced", "kept"), seen[i])
		}
		return b.String()
	}
	return p
}

// concurrentAttacks is how many attacks are made at a time. Unlike the rows of the crash
// matrix, many of them keep a processor busy.
const concurrentAttacks = 4

// TestAttackMatrix lets a node attack the host and its neighbor, and checks what each of
// them notices. docs/attacks.md has the results.
func TestAttackMatrix(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	leaveADescriptorOpen(t)
	tables, complete := runParts(t, concurrentAttacks, attackMatrix(protocolAttacks), attackMatrix(systemAttacks), attackMatrix(textAttacks), lieMatrix(), attackMatrix(memoryAttacks))
	if complete {
		compareDocs(t, "docs/attacks.md", tables)
	}
}

// leaveADescriptorOpen opens a file as C code in an embedder may do: processes that are
// started inherit it.
func leaveADescriptorOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("a secret of the host"), 0o600))
	fd, err := syscall.Open(file, syscall.O_RDONLY, 0) // without O_CLOEXEC
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
}

// secrets numbers the neighbors' calls, each of which has data of its own.
var secrets atomic.Int64

// neighborData returns the input of a neighbor's call and the data that must come back. It
// is the function pattern of memory.py.
func neighborData(name string, size int) (input map[string]any, want []byte) {
	const block = 128
	n := secrets.Add(1)
	secret := make([]byte, 16)
	for i := range secret {
		secret[i] = byte(rand.IntN(256))
	}
	head := []byte("\x93gophersnake secret\x93")
	head = append(head, name...)
	head = append(head, make([]byte, 8-len(name))...)
	for i := range 8 {
		head = append(head, byte(n>>(8*i)))
	}
	head = append(head, secret...)
	head = append(head, bytes.Repeat([]byte{0x55}, block-len(head))...)
	want = bytes.Repeat(head, size/block)
	for i := range size / block {
		want[i*block+block-1] = byte(i)
	}
	tensor := &ipc.Tensor{DType: ipc.Uint8, Shape: []int{size}, Data: want}
	return map[string]any{"n": n, "secret": secret, "data": tensor}, want
}

// neighborSize is the size of the data of a neighbor's call. It travels in shared memory.
const neighborSize = 2 * ipc.SharedFrom

// pipelineOfAttack is a runner with an attacker and its neighbor. A run calls both, each
// with an input of its own.
type pipelineOfAttack struct {
	*runner.Runner
	events *recorder
	log    *lockedBuffer
}

func (a attack) start(t *testing.T, file string) pipelineOfAttack {
	t.Helper()
	base, err := filepath.Abs(hostileFolder)
	require.NoError(t, err)
	lines := append([]string{noSpare}, a.more...)
	if !strings.Contains(strings.Join(lines, "\n"), "retry:") {
		lines = append(lines, "retry: none")
	}
	if !a.open {
		lines = append(lines, fmt.Sprintf("isolation: {write: [%q]}", filepath.Dir(file)))
	}
	if a.quick {
		lines = append(lines, "timeout: 2s")
	} else {
		lines = append(lines, "timeout: 1m")
	}
	if a.limits != "" {
		lines = append(lines, "limits: "+a.limits)
	}
	text := `
version: v1
python: nodes.py
nodes:
  - {id: to_attacker, node_type: to_attacker}
  - {id: to_neighbor, node_type: to_neighbor}
  - id: neighbor
    node_type: Neighbor
    params: {name: neighbor}
    isolation: strict
    retry: none
    workers: {spare: 0}
  - id: node
    node_type: hostile
    ` + strings.Join(lines, "\n    ") + `
connections:
  - {from: to_attacker, to: node}
  - {from: to_neighbor, to: neighbor}
`
	p := pipelineOfAttack{events: &recorder{}, log: &lockedBuffer{}}
	part := func(name string) runner.Option {
		return goNode(name, func(_ context.Context, v any) (any, error) { return v.(map[string]any)[name], nil })
	}
	p.Runner = parse(t, text, base, part("to_attacker"), part("to_neighbor"), runner.WithEvents(p.events.record), runner.WithSharedMemory(64<<20), runner.WithSystemPython(),
		runner.WithLogger(hclog.New(&hclog.LoggerOptions{Output: p.log, Level: hclog.Info})))
	return p
}

// workersOf returns how many workers a node has had. Their own process ids may be equal, if
// each is in a namespace of its own.
func (p pipelineOfAttack) workersOf(node string) (started int) {
	for _, e := range of[runner.WorkerStarted](p.events) {
		if e.Node == node {
			started++
		}
	}
	return started
}

// run calls the attacker and the neighbor, and returns the attacker's answer. The neighbor
// must return its data, if the run succeeds.
func (p pipelineOfAttack) run(t *testing.T, given map[string]any) (answer any, err error) {
	t.Helper()
	input, want := neighborData("neighbor", neighborSize)
	given["data"] = &ipc.Tensor{DType: ipc.Uint8, Shape: []int{neighborSize}, Data: make([]byte, neighborSize)}
	result, err := p.Run(t.Context(), map[string]any{"to_attacker": given, "to_neighbor": input})
	if err != nil {
		return nil, err
	}
	all := result.(map[string]any)
	neighbor := all["neighbor"].(map[string]any)
	assert.True(t, bytes.Equal(want, neighbor["data"].(*ipc.Tensor).Data), "the neighbor's data has changed")
	assert.Empty(t, neighbor["seen"], "the neighbor sees data of others")
	if answer, ok := all["node"].(map[string]any); ok {
		assert.Empty(t, answer["seen"], "the attacker sees data of others")
	}
	return all["node"], nil
}

// observe makes the attack, and checks that it has harmed neither the host nor the
// neighbor. It returns what the operator sees.
func (a attack) observe(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "file")
	p := a.start(t, file)
	_, err := p.run(t, map[string]any{})
	require.NoError(t, err)

	began := time.Now()
	answer, err := p.run(t, map[string]any{"attack": a.way, "file": file, "host": os.Getpid()})
	seen := &attacked{answer: answer, file: file, took: time.Since(began), log: p.log, events: p.events, runner: p.Runner}
	seen.observation = observe(t, p.Runner, err)
	_ = errors.As(err, &seen.failure)
	// A worker that is ended may exit by itself first. The other fields are of no interest here.
	seen.location, seen.function, seen.end, seen.counted = "", "", "", false

	_, err = p.run(t, map[string]any{})
	require.NoError(t, err, "the attacker's node works again, and so does its neighbor")
	assert.Equal(t, 1, p.workersOf("neighbor"), "the neighbor has the same worker")
	seen.replaced = p.workersOf("node") > 1
	a.want.counted, a.want.function, a.want.end = false, "", ""
	assert.Equal(t, a.want, seen.outcome, seen.says)
	for _, e := range of[runner.NodeFinished](p.events) {
		if e.Node == "neighbor" && e.Err != nil {
			assert.ErrorIs(t, e.Err, context.Canceled, "only the end of its run may disturb the neighbor")
		}
	}
	if seen.succeeds && a.check == nil {
		seen.says, _ = answer.(string)
	}
	assert.Contains(t, seen.says, a.says)
	if a.check != nil {
		if shown := a.check(t, seen); shown != "" {
			seen.says = shown
		}
	}
	closeCleanly(t, p.Runner, p.events)
	return a.cell(seen)
}

// differing are the parts of a text that differ from run to run.
var differing = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`segment (0x)?[0-9a-f]+`), "segment N"},
	{regexp.MustCompile(`call \d+`), "call N"},
	{regexp.MustCompile(`its resident memory was [0-9.]+ ?[a-zA-Z]+`), "its resident memory was …"},
	{regexp.MustCompile(`; it was blocked in .*`), ""},
	{regexp.MustCompile(`its \d+ bytes take about \d+ bytes`), "its … bytes take about … bytes"},
	{regexp.MustCompile(`more than the \d+ that`), "more than the … that"},
	{regexp.MustCompile(`^the connection to the worker broke: (the connection is closed: )?`), ""},
}

// cell is what the operator sees of an attack, for the table.
func (a attack) cell(seen *attacked) string {
	says := seen.says
	for _, each := range differing {
		says = each.pattern.ReplaceAllString(says, each.text)
	}
	shown := quoted(observation{says: runner.Printable(says)})
	if seen.succeeds && a.check == nil {
		return "the node's answer: " + shown
	}
	return shown
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}
