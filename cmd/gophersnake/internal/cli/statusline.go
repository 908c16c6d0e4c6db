package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// statusLine is what is known of one node, or of the environment, on its way
// through all inputs.
type statusLine struct {
	name   string
	inputs int

	stage   string // the environment's stage
	detail  string // the installer's last line, or a node's word on its set-up
	ready   bool
	running int
	done    int
	failed  int
	retry   string

	started, finished time.Time
}

// take takes the news of a node.
func (s *statusLine) take(e runner.Event) {
	switch e := e.(type) {
	case runner.SetupProgress:
		s.detail = e.Message
		if e.Fraction != nil {
			s.detail = strings.TrimSpace(fmt.Sprintf("%s %.0f%%", e.Message, 100**e.Fraction))
		}
	case runner.WorkerStarted:
		s.ready, s.detail = true, ""
	case runner.NodeStarted:
		s.running++
		if s.started.IsZero() {
			s.started = e.Time
		}
	case runner.CallRetried:
		s.retry = fmt.Sprintf("attempt %d failed, the next follows in %v", e.Attempt, e.Delay)
	case runner.NodeFinished:
		s.running--
		s.retry = ""
		if e.Err != nil {
			s.failed++
		} else {
			s.done++
		}
		s.finished = e.Time
	}
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// turning is what stands before a line that is at work.
func turning(now time.Time) string { return string(spinner[now.UnixMilli()/100%int64(len(spinner))]) }

// render implements line.
func (s *statusLine) render(st style, nameWidth, width int, now time.Time, ended bool) string {
	working := turning(now)
	icon, paint, text := working, st.cyan, ""
	switch {
	case s.stage != "": // the environment
		text = s.stage
		if s.detail != "" {
			text += ": " + s.detail
		}
		if !s.finished.IsZero() {
			icon, paint, text = "✓", st.green, "built in "+seconds(s.finished.Sub(s.started))
		} else {
			text = seconds(now.Sub(s.started)) + "  " + text
		}
	case s.running > 0:
		text = seconds(now.Sub(s.started))
		if s.inputs > 1 {
			text = fmt.Sprintf("%d/%d  %s", s.done+s.failed, s.inputs, text)
		}
		if s.retry != "" {
			paint, text = st.yellow, text+"  "+s.retry
		}
	case s.failed > 0:
		icon, paint, text = "✗", st.red, "failed after "+seconds(s.finished.Sub(s.started))
		if s.inputs > 1 {
			text = fmt.Sprintf("%d/%d  %s, %d failed", s.done+s.failed, s.inputs, seconds(s.finished.Sub(s.started)), s.failed)
		}
	case s.done > 0 && (ended || s.done >= s.inputs):
		icon, paint, text = "✓", st.green, seconds(s.finished.Sub(s.started))
		if s.inputs > 1 {
			text = fmt.Sprintf("%d/%d  %s", s.done, s.inputs, text)
		}
	case s.done > 0:
		text = fmt.Sprintf("%d/%d", s.done, s.inputs)
	case s.ready:
		icon, paint, text = "·", st.dim, "ready"
	case s.detail != "":
		text = s.detail
	default:
		text = "starting"
	}
	if ended && icon == working {
		icon, paint = "·", st.dim
	}
	plain := fmt.Sprintf("%-*s  %s", nameWidth, s.name, text)
	return paint(icon) + " " + shortenLine(plain, width-2)
}

// shortenLine keeps the beginning of a line, blanks and all.
func shortenLine(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:max(width-1, 0)]) + "…"
	}
	return text
}

// seconds writes a duration with as many digits as people read.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
