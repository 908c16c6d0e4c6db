package top

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
)

// Table formats the status as a table. A width of 0 is any.
func Table(s *Status, style terminal.Style, width int) string {
	return strings.Join(table(s, style, width, -1), "\n") + "\n"
}

// columns are the heads of the table, and how wide each is. The last ones are left out of a
// terminal that is too narrow.
var columns = []struct {
	head  string
	width int
}{
	{"NODE", 18}, {"STATE", 9}, {"WORKERS", 15}, {"QUEUE", 5}, {"RATE", 8}, {"P50", 8}, {"P99", 8},
	{"CALLS", 9}, {"FAILED", 7}, {"BREAKER", 9}, {"LAST MINUTE", 15},
}

// table returns the lines of the table. The node with the number selected is marked.
func table(s *Status, style terminal.Style, width, selected int) []string {
	shown, total := 0, 2
	for _, c := range columns {
		if total += c.width + 2; width == 0 || total <= width+2 {
			shown++
		}
	}
	shown = max(shown, 2)
	var head strings.Builder
	for _, c := range columns[:shown] {
		head.WriteString(padded(c.head, c.width) + "  ")
	}
	var lines []string
	number := 0
	for _, p := range s.Pipelines {
		lines = append(lines, style.Bold(clean(p.Name))+"  "+colored(style, p.State, p.State))
		lines = append(lines, style.Dim("  "+strings.TrimRight(head.String(), " ")))
		for i := range p.Nodes {
			lines = append(lines, row(&p.Nodes[i], style, shown, number == selected))
			number++
		}
		for i := range p.Nodes {
			if n := &p.Nodes[i]; n.State != "healthy" && n.Reason != "" {
				lines = append(lines, "  "+clean(n.Node)+": "+clean(n.Reason))
			}
		}
		lines = append(lines, "")
	}
	return append(lines, machineLines(s.Machines, style)...)
}

// machineLines returns the lines of the machines of a cluster, none if there is no cluster.
func machineLines(machines []Machine, style terminal.Style) []string {
	if len(machines) == 0 {
		return nil
	}
	lines := []string{style.Bold("machines"), style.Dim("  " + machineLine("MACHINE", "PIPELINE", "STATE", "CALLS", "QUEUE", "VERSION", "LABELS"))}
	for i := range machines {
		m := &machines[i]
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
			labels = append(labels, key+"="+m.Labels[key])
		}
		for _, p := range m.Pipelines {
			state := "ready"
			switch {
			case !m.Usable:
				state = "protocol"
			case m.Leaving:
				state = "leaving"
			case !p.Ready:
				state = "not ready"
			}
			lines = append(lines, "  "+machineLine(m.Name, p.Name, state, fmt.Sprintf("%d/%d", p.Active, p.Slots), fmt.Sprint(p.Waiting), m.Version, strings.Join(labels, " ")))
		}
	}
	return append(lines, "")
}

func machineLine(cells ...string) string {
	widths := []int{18, 18, 9, 9, 5, 9}
	var b strings.Builder
	for i, cell := range cells {
		if i < len(widths) {
			cell = padded(clean(cell), widths[i]) + "  "
		} else {
			cell = clean(cell)
		}
		b.WriteString(cell)
	}
	return strings.TrimRight(b.String(), " ")
}

// row returns the line of a node.
func row(n *Node, style terminal.Style, shown int, isSelected bool) string {
	workers, queue := "-", "-"
	if w := n.Workers; w != nil {
		workers, queue = fmt.Sprintf("%d/%d", w.Busy, w.Busy+w.Idle), fmt.Sprint(w.Waiting)
		if w.Spares > 0 {
			workers += fmt.Sprintf(" +%d", w.Spares)
		}
		if w.Starting > 0 {
			workers += fmt.Sprintf(" (%d new)", w.Starting)
		}
	}
	rate, p50, p99, line := "-", "-", "-", ""
	if r := n.Recent; r != nil {
		rate, p50, p99, line = fmt.Sprintf("%.1f/s", r.Rate), seconds(r.P50), seconds(r.P99), spark(r.History.Rate)
	}
	cells := []string{
		clean(n.Node), clean(n.State), workers, queue, rate, p50, p99, fmt.Sprint(n.Calls), fmt.Sprint(sum(n.Failed)), clean(n.Breaker), line,
	}
	var b strings.Builder
	for i, c := range columns[:shown] {
		text := padded(cells[i], c.width)
		switch {
		case i == 1:
			text = colored(style, n.State, text)
		case i == 8 && sum(n.Failed) > 0, i == 9 && n.Breaker != "closed":
			text = style.Red(text)
		}
		b.WriteString(text + "  ")
	}
	if isSelected {
		return style.Cyan("› ") + b.String()
	}
	return "  " + b.String()
}

// colored colors a text by a state.
func colored(style terminal.Style, state, text string) string {
	switch state {
	case "healthy":
		return style.Green(clean(text))
	case "unhealthy", "closed":
		return style.Red(clean(text))
	}
	return style.Yellow(clean(text))
}

// spark draws values in a line.
func spark(values []float64) string {
	const most = 15
	bars := []rune("▁▂▃▄▅▆▇█")
	values = values[max(0, len(values)-most):]
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	line := make([]rune, len(values))
	for i, v := range values {
		line[i] = bars[0]
		if highest > 0 {
			line[i] = bars[min(int(v/highest*float64(len(bars))), len(bars)-1)]
		}
	}
	return string(line)
}

// clean returns a text in one line that a terminal does not take for a command. What a service
// sends is not trusted.
func clean(text string) string { return runner.PrintableLine(text) }

// padded cuts or pads a text to a width.
func padded(text string, width int) string {
	n := utf8.RuneCountInString(text)
	if n > width {
		return string([]rune(text)[:width-1]) + "…"
	}
	return text + strings.Repeat(" ", width-n)
}

// seconds formats a time.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.3gms", float64(d)/float64(time.Millisecond))
	}
	return d.Round(100 * time.Millisecond).String()
}

// size formats a number of bytes.
func size(bytes int64) string {
	if bytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
}

func sum(counts map[string]uint64) (total uint64) {
	for _, n := range counts {
		total += n
	}
	return total
}

// details returns the lines about a node: its workers, and its last death.
func details(n *Node, now time.Time, style terminal.Style) []string {
	lines := []string{style.Bold(clean(n.Node)) + "  " + clean(n.Type) + ", " + clean(n.Kind) + "  " + colored(style, n.State, n.State)}
	if n.Reason != "" {
		lines = append(lines, clean(n.Reason))
	}
	lines = append(lines, fmt.Sprintf("%d calls, %d failed, %d retries", n.Calls, sum(n.Failed), n.Retries), "")
	if p := n.Pool; p != nil {
		lines = append(lines, style.Dim(fmt.Sprintf("%-9s %-10s %-6s %-9s %-9s %-9s %s", "PID", "ROLE", "LOAD", "CALLS", "AGE", "MEMORY", "CPU")))
		for _, w := range p.Workers {
			lines = append(lines, fmt.Sprintf("%-9d %-10s %-6d %-9d %-9s %-9s %s",
				w.PID, padded(clean(w.Role), 10), w.Load, w.Calls, seconds(w.Age), size(w.Resident), seconds(w.CPU)))
		}
		lines = append(lines, "", fmt.Sprintf("generation %d, %d deaths", p.Generation, sum(p.Deaths)))
	}
	if d := n.Death; d != nil {
		lines = append(lines, "", style.Red(fmt.Sprintf("last death, %v ago", now.Sub(d.Time).Round(time.Second))))
		lines = append(lines, d.lines()...)
	}
	if e := n.Error; e != nil && (n.Death == nil || e.Text != n.Death.Text) {
		lines = append(lines, "", style.Red("last error"))
		lines = append(lines, e.lines()...)
	}
	return lines
}

// lines returns all that is known of a failure.
func (f *Failure) lines() []string {
	text := f.Text
	if f.Report != "" {
		text = f.Report
	}
	return strings.Split(runner.Printable(text), "\n")
}

// logLines returns the lines of records.
func logLines(records []Record, style terminal.Style) []string {
	var lines []string
	for _, r := range records {
		head := r.Time.Local().Format("15:04:05") + " " + padded(clean(r.Level), 5)
		switch r.Level {
		case "error":
			head = style.Red(head)
		case "warn":
			head = style.Yellow(head)
		default:
			head = style.Dim(head)
		}
		text := r.Text
		if r.Logger != "" {
			text = r.Logger + ": " + text
		}
		for i, line := range strings.Split(runner.Printable(text), "\n") {
			if i > 0 {
				head = strings.Repeat(" ", 14)
			}
			lines = append(lines, head+" "+line)
		}
	}
	return lines
}
