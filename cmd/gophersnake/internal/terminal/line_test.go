package terminal

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/runner"
)

var begin = time.UnixMilli(0)

// rendered returns a line as it looks 2 s after the beginning.
func rendered(l line, ended bool) string {
	return l.render(Style{}, 4, 80, begin.Add(2*time.Second), ended)
}

func TestALineShowsTheStateOfItsNode(t *testing.T) {
	n := &nodeLine{name: "n", inputs: 1}
	assert.Equal(t, "⠋ n     starting", rendered(n, false))
	half := 0.5
	for _, step := range []struct {
		event runner.Event
		want  string
	}{
		{runner.SetupProgress{Message: "loading", Fraction: &half}, "⠋ n     loading 50%"},
		{runner.WorkerStarted{}, "· n     ready"},
		{runner.NodeStarted{Time: begin}, "⠋ n     2.00 s"},
		{runner.CallRetried{Attempt: 1, Delay: 100 * time.Millisecond}, "⠋ n     2.00 s  attempt 1 failed, retrying in 100ms"},
		{runner.NodeFinished{Time: begin.Add(time.Second)}, "✓ n     1.00 s"},
	} {
		n.update(step.event)
		assert.Equal(t, step.want, rendered(n, false))
	}
	n.running, n.report = 1, "decoding 50%"
	assert.Equal(t, "⠋ n     2.00 s  decoding 50%", rendered(n, false))
	n.update(runner.NodeFinished{Time: begin.Add(time.Second)})
	n.update(runner.NodeStarted{Time: begin})
	assert.Equal(t, "⠋ n     2.00 s", rendered(n, false), "a call begins without a report")
	n.update(runner.NodeFinished{Time: begin.Add(time.Second), Err: errors.New("no luck")})
	n.running = 0
	assert.Equal(t, "✗ n     failed after 1.00 s", rendered(n, false))
}

func TestALineCountsInputs(t *testing.T) {
	n := &nodeLine{name: "n", inputs: 3}
	start, end := runner.NodeStarted{Time: begin}, runner.NodeFinished{Time: begin.Add(time.Second)}
	n.update(start)
	assert.Equal(t, "⠋ n     0/3  2.00 s", rendered(n, false))
	n.update(end)
	assert.Equal(t, "⠋ n     1/3", rendered(n, false))
	assert.Equal(t, "✓ n     1/3  1.00 s", rendered(n, true))
	n.update(start)
	end.Err = errors.New("no luck")
	n.update(end)
	assert.Equal(t, "✗ n     2/3  1.00 s, 1 failed", rendered(n, false))
}

func TestTheLineOfAnEnvironment(t *testing.T) {
	e := &environmentLine{started: begin, stage: "installing numpy"}
	assert.Equal(t, "⠋ environment  2.00 s  installing numpy", rendered(e, false))
	e.detail = "Downloading numpy"
	assert.Equal(t, "· environment  2.00 s  installing numpy: Downloading numpy", rendered(e, true))
	e.finished = begin.Add(time.Second)
	assert.Equal(t, "✓ environment  built in 1.00 s", rendered(e, true))
}

func TestTheLineOfAStream(t *testing.T) {
	s := &streamLine{}
	s.update(runner.SetupProgress{Message: "loading"})
	assert.Equal(t, "⠋ stream  loading", rendered(s, false))
	s.update(runner.WorkerStarted{})
	assert.Equal(t, "⠋ stream  starting", rendered(s, false))
	s.sent, s.received = 2, 1
	assert.Equal(t, "· stream  2 in, 1 out", rendered(s, true))
	s.report = "decoding"
	assert.Equal(t, "⠋ stream  2 in, 1 out  decoding", rendered(s, false))
}

func TestTheLineOfACount(t *testing.T) {
	c := &countLine{name: "done", total: 1, started: begin, report: "50% n: decoding"}
	assert.Equal(t, "⠋ done  0/1  50% n: decoding", rendered(c, false))
	c.done = 1
	assert.Equal(t, "✓ done  1/1", rendered(c, true))
}
