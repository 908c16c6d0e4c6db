package runner

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gophersnake/gophersnake/retry"
)

// String is a table for people: the nodes, what is wrong with them, and their
// workers.
func (h Health) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, verdict(h.State, h.Reason, h.Err))
	if len(h.Nodes) == 0 {
		return b.String()
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATE\tWORKERS\tSPARES\tWAITING\tCALLS\tFAILED\tBREAKER")
	for _, n := range h.Nodes {
		fmt.Fprintln(table, strings.Join(n.row(), "\t"))
	}
	_ = table.Flush() // into memory
	for _, n := range h.Nodes {
		n.tell(&b)
	}
	h.tellWorkers(&b)
	return b.String()
}

// verdict is a state with its cause, in a line.
func verdict(state HealthState, reason string, err *Error) string {
	text := string(state)
	if reason != "" {
		text += ": " + reason
	}
	if err != nil && !strings.Contains(reason, err.Error()) {
		text += ": " + err.Error()
	}
	return text
}

func (n *NodeHealth) row() []string {
	workers, spares, waiting := "-", "-", "-"
	if p := n.Pool; p != nil {
		workers = fmt.Sprintf("%d busy, %d idle of %s", p.Busy, p.Idle, bounds(p.Min, p.Max))
		if p.Starting > 0 {
			workers += fmt.Sprintf(", %d starting", p.Starting)
		}
		spares, waiting = fmt.Sprint(p.Spares), fmt.Sprint(p.Waiting)
	}
	return []string{
		n.Node, string(n.State), workers, spares, waiting,
		fmt.Sprint(n.Calls), fmt.Sprint(n.failed()), n.Breaker.String(),
	}
}

func bounds(least, most int) string {
	if least == most {
		return fmt.Sprint(most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func (n *NodeHealth) failed() (sum uint64) {
	for _, count := range n.Failed {
		sum += count
	}
	return sum
}

// tell writes what is wrong with a node, and what was last.
func (n *NodeHealth) tell(b *strings.Builder) {
	var lines []string
	if n.State != StateHealthy && (n.Reason != "" || n.Err != nil) {
		lines = append(lines, verdict(n.State, n.Reason, n.Err))
	}
	if n.Breaker != retry.Closed || n.Failures > 0 {
		lines = append(lines, fmt.Sprintf("circuit breaker %s, %d failed in a row", n.Breaker, n.Failures))
	}
	if p := n.Pool; p != nil {
		if p.ConsecutiveFailures > 0 {
			text := fmt.Sprintf("%d setbacks in a row", p.ConsecutiveFailures)
			if !p.NextStart.IsZero() {
				text += ", the next start is at " + p.NextStart.Format(time.TimeOnly)
			}
			lines = append(lines, text)
		}
		if p.SpareNote != "" {
			lines = append(lines, p.SpareNote)
		}
		if p.ForkNote != "" {
			lines = append(lines, "fork server: "+p.ForkNote)
		}
		if d := p.LastDeath; d != nil {
			lines = append(lines, fmt.Sprintf("last death at %s: %v", d.Time.Format(time.TimeOnly), d.Err))
		}
	}
	if n.LastError != nil && n.LastError != n.Err {
		lines = append(lines, fmt.Sprintf("last error: %v", n.LastError))
	}
	for i, line := range lines {
		if i == 0 {
			fmt.Fprintf(b, "\n%s:\n", n.Node)
		}
		fmt.Fprintf(b, "  %s\n", strings.ReplaceAll(line, "\n", "\n  "))
	}
}

func (h Health) tellWorkers(b *strings.Builder) {
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	first := true
	for _, n := range h.Nodes {
		if n.Pool == nil {
			continue
		}
		for _, w := range n.Pool.Workers {
			if first {
				fmt.Fprintln(table, "\nWORKER\tNODE\tROLE\tLOAD\tSTREAMS\tCALLS\tAGE\tIDLE\tMEMORY\tCPU\tFILES")
				first = false
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", w.PID, n.Node, w.Role, w.Load, w.Sessions,
				w.Calls, span(w.Age), span(w.Idle), mebibytes(w.Resident), span(w.CPU), orDash(w.OpenFiles))
		}
	}
	_ = table.Flush() // into memory
}

// span writes a duration as coarsely as people read it; a dash where it is not known.
func span(s Seconds) string {
	switch d := time.Duration(s); {
	case d == 0:
		return "-"
	case d >= time.Minute:
		return d.Round(time.Second).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
