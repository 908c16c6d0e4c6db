package terminal

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// line is one line of a [Display].
type line interface {
	// render returns the current state of the line, no wider than width. If ended is
	// true, this is the last state.
	render(style Style, nameWidth, width int, now time.Time, ended bool) string
}

// idleIcon stands before a line if its work has not begun or was cut short.
const idleIcon = "·"

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// spinnerAt returns the spinner's frame for a point in time.
func spinnerAt(now time.Time) string {
	return string(spinner[now.UnixMilli()/100%int64(len(spinner))])
}

// layout returns a line with its icon, its name and its text, which is made printable.
func layout(icon, name, text string, nameWidth, width int) string {
	return icon + " " + truncate(runner.PrintableLine(fmt.Sprintf("%-*s  %s", nameWidth, name, text)), width-2)
}

// environmentLine is the state of the build of an environment.
type environmentLine struct {
	stage             string
	detail            string // the last line that the installer printed
	started, finished time.Time
}

func (e *environmentLine) render(style Style, nameWidth, width int, now time.Time, ended bool) string {
	icon, text := style.Cyan(spinnerAt(now)), ""
	switch {
	case !e.finished.IsZero():
		icon, text = style.Green("✓"), "built in "+Seconds(e.finished.Sub(e.started))
	default:
		text = Seconds(now.Sub(e.started)) + "  " + e.stage
		if e.detail != "" {
			text += ": " + e.detail
		}
		if ended {
			icon = style.Dim(idleIcon)
		}
	}
	return layout(icon, "environment", text, nameWidth, width)
}

// nodeLine is the state of one node while it processes all inputs.
type nodeLine struct {
	name   string
	inputs int // the number that it will process

	setup   string // the last progress report of the node's setup
	ready   bool   // a worker has started
	running int
	done    int
	failed  int
	report  string // the last progress report of a call
	retry   string // the pending retry, if any
	waits   bool   // calls wait for the probe of the open circuit breaker

	started, finished time.Time
}

// reportText returns what a node reports of its progress.
func reportText(message string, fraction *float64) string {
	if fraction == nil {
		return message
	}
	return strings.TrimSpace(fmt.Sprintf("%s %.0f%%", message, 100**fraction))
}

// update applies an event of the node.
func (n *nodeLine) update(e runner.Event) {
	switch e := e.(type) {
	case runner.SetupProgress:
		n.setup = reportText(e.Message, e.Fraction)
	case runner.WorkerStarted:
		n.ready, n.setup = true, ""
	case runner.NodeStarted:
		n.running++
		n.report = ""
		if n.started.IsZero() {
			n.started = e.Time
		}
	case runner.CallRetried:
		n.retry = fmt.Sprintf("attempt %d failed, retrying in %v", e.Attempt, e.Delay)
	case runner.BreakerChanged:
		n.waits = e.CallsWait
	case runner.NodeFinished:
		n.running--
		n.retry = ""
		if e.Err != nil {
			n.failed++
		} else {
			n.done++
		}
		n.finished = e.Time
	}
}

func (n *nodeLine) render(style Style, nameWidth, width int, now time.Time, ended bool) string {
	working := spinnerAt(now)
	icon, paint, text := working, style.Cyan, ""
	count, took := fmt.Sprintf("%d/%d", n.done+n.failed, n.inputs), Seconds(n.finished.Sub(n.started))
	switch {
	case n.running > 0:
		text = n.withCount(count, Seconds(now.Sub(n.started)))
		if n.report != "" {
			text += "  " + n.report
		}
		if n.retry != "" {
			paint, text = style.Yellow, text+"  "+n.retry
		}
		if n.waits {
			paint, text = style.Yellow, text+"  the circuit breaker is open, waiting for the next probe"
		}
	case n.failed > 0:
		icon, paint, text = "✗", style.Red, "failed after "+took
		if n.inputs > 1 {
			text = fmt.Sprintf("%s  %s, %d failed", count, took, n.failed)
		}
	case n.done > 0 && (ended || n.done >= n.inputs):
		icon, paint, text = "✓", style.Green, n.withCount(count, took)
	case n.done > 0:
		text = count
	case n.ready:
		icon, paint, text = idleIcon, style.Dim, "ready"
	default:
		text = cmp.Or(n.setup, "starting")
	}
	if ended && icon == working {
		icon, paint = idleIcon, style.Dim
	}
	return layout(paint(icon), n.name, text, nameWidth, width)
}

// withCount puts the number of processed inputs before a text if there are several inputs.
func (n *nodeLine) withCount(count, text string) string {
	if n.inputs > 1 {
		return count + "  " + text
	}
	return text
}

// streamLine is the state of a stream.
type streamLine struct {
	sent, received int
	setup          string // the last progress report of a node's setup
	report         string // the last progress report of an item
}

// update applies an event of a node.
func (s *streamLine) update(e runner.Event) {
	switch e := e.(type) {
	case runner.SetupProgress:
		s.setup = e.Message
	case runner.WorkerStarted:
		s.setup = ""
	}
}

func (s *streamLine) render(style Style, nameWidth, width int, now time.Time, ended bool) string {
	icon, text := style.Cyan(spinnerAt(now)), cmp.Or(s.setup, "starting")
	if s.sent > 0 || s.received > 0 {
		text = strings.TrimSpace(fmt.Sprintf("%d in, %d out  %s", s.sent, s.received, s.report))
	}
	if ended {
		icon = style.Dim(idleIcon)
	}
	return layout(icon, "stream", text, nameWidth, width)
}
