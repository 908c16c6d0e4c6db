package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
)

// The views of the program.
type view int

const (
	viewTable view = iota
	viewNode
	viewLog
)

// retryDelay is how long the program waits before it asks a service again that it has lost.
const retryDelay = time.Second

// Run shows the status in a terminal until the user or the context ends it. It returns the error
// of a terminal that cannot be used.
func Run(ctx context.Context, c *Client, in *os.File, out io.Writer, style terminal.Style) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &model{ctx: ctx, client: c, style: style, width: 80, height: 24}
	program := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		m.watch(ctx, program.Send)
	}()
	_, err := program.Run()
	cancel()
	<-watching
	if ctx.Err() != nil && m.isDone {
		return nil
	}
	return err
}

// model is the state of the program. Only its method Update changes it.
type model struct {
	ctx           context.Context
	client        *Client
	style         terminal.Style
	width, height int

	status   *Status
	lost     error // why there is no newer status
	selected int   // the number of the node
	view     view
	scroll   int // lines from the top or, of the log, from the end
	records  []Record
	confirm  *action // what the next y does
	message  string
	isDone   bool // the user has ended the program
}

// action is what the user can do to the service.
type action struct {
	question, done string
	run            func(ctx context.Context) error
}

// The messages of the program.
type (
	statusMsg struct{ status *Status }
	lostMsg   struct{ err error }
	logMsg    struct {
		records []Record
		err     error
	}
	doneMsg struct{ text string }
)

// watch sends each status, and asks again if the service is lost.
func (m *model) watch(ctx context.Context, send func(tea.Msg)) {
	for ctx.Err() == nil {
		err := m.client.Watch(ctx, func(s *Status) { send(statusMsg{s}) })
		if ctx.Err() != nil {
			return
		}
		send(lostMsg{err})
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
		}
	}
}

// Init implements [tea.Model].
func (m *model) Init() tea.Cmd { return nil }

// Update implements [tea.Model].
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case statusMsg:
		m.status, m.lost = msg.status, nil
		m.selected = max(0, min(m.selected, len(m.nodes())-1))
		if m.view == viewLog {
			return m, m.fetchLog()
		}
	case lostMsg:
		m.lost = msg.err
	case logMsg:
		if msg.err != nil {
			m.message = msg.err.Error()
		} else {
			m.records = msg.records
		}
	case doneMsg:
		m.message = msg.text
	case tea.KeyPressMsg:
		return m, m.press(msg.String())
	}
	return m, nil
}

// press handles a key.
func (m *model) press(key string) tea.Cmd {
	confirm := m.confirm
	m.confirm, m.message = nil, ""
	if confirm != nil {
		if key != "y" {
			return nil
		}
		m.message = "…"
		return func() tea.Msg {
			if err := confirm.run(m.ctx); err != nil {
				return doneMsg{err.Error()}
			}
			return doneMsg{confirm.done}
		}
	}
	switch key {
	case "q", "ctrl+c":
		m.isDone = true
		return tea.Quit
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-m.body())
	case "pgdown", "space":
		m.move(m.body())
	case "esc", "backspace", "left", "h":
		m.view, m.scroll = viewTable, 0
	case "enter", "d", "right":
		m.view, m.scroll = viewNode, 0
	case "l":
		m.view, m.scroll, m.records = viewLog, 0, nil
		return m.fetchLog()
	case "r", "R":
		m.ask(key == "R")
	}
	return nil
}

// move selects another node or, in another view, scrolls.
func (m *model) move(by int) {
	switch m.view {
	case viewTable:
		m.selected = max(0, min(m.selected+by, len(m.nodes())-1))
	case viewNode:
		m.scroll = max(0, m.scroll+by)
	case viewLog:
		m.scroll = max(0, m.scroll-by)
	}
}

// ask asks whether to restart the node or, with the whole pipeline, to reload its code.
func (m *model) ask(whole bool) {
	n := m.node()
	switch {
	case n == nil:
		return
	case !m.status.May.Admin:
		m.message = "the service does not allow this client to restart or reload"
		return
	case whole:
		m.confirm = &action{fmt.Sprintf("reload the code of %s?", clean(n.pipeline)), clean(n.pipeline) + " was reloaded",
			func(ctx context.Context) error { return m.client.Reload(ctx, n.pipeline) }}
	default:
		m.confirm = &action{fmt.Sprintf("restart %s?", clean(n.node.Node)), clean(n.node.Node) + " was restarted",
			func(ctx context.Context) error { return m.client.Restart(ctx, n.pipeline, n.node.Node) }}
	}
}

// located is a node with the name of its pipeline.
type located struct {
	node     *Node
	pipeline string
}

// nodes returns the nodes of all pipelines.
func (m *model) nodes() (all []located) {
	if m.status == nil {
		return nil
	}
	for i := range m.status.Pipelines {
		p := &m.status.Pipelines[i]
		for j := range p.Nodes {
			all = append(all, located{&p.Nodes[j], p.Name})
		}
	}
	return all
}

// node returns the selected node, or nil.
func (m *model) node() *located {
	all := m.nodes()
	if m.selected >= len(all) {
		return nil
	}
	return &all[m.selected]
}

// fetchLog returns the command that gets the log of the selected node.
func (m *model) fetchLog() tea.Cmd {
	n := m.node()
	if n == nil {
		return nil
	}
	return func() tea.Msg {
		records, err := m.client.Logs(m.ctx, n.pipeline, n.node.Node)
		return logMsg{records, err}
	}
}

// body returns how many lines there are between the head and the foot.
func (m *model) body() int { return max(1, m.height-4) }

// View implements [tea.Model].
func (m *model) View() tea.View {
	lines := []string{m.head(), ""}
	lines = append(lines, m.content()...)
	for len(lines) < m.height-2 {
		lines = append(lines, "")
	}
	lines = append(lines[:min(len(lines), max(0, m.height-2))], m.note(), m.style.Dim(keys))
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	v.WindowTitle = "gophersnake top"
	return v
}

const keys = "↑↓ select  enter details  l log  r restart  R reload  esc back  q quit"

func (m *model) head() string {
	head := m.style.Bold("gophersnake") + "  " + m.client.base.Redacted() + "  "
	switch {
	case m.status == nil:
		return head
	case m.status.Draining:
		return head + m.style.Yellow("draining")
	case m.status.Ready:
		return head + m.style.Green("ready")
	}
	return head + m.style.Red("not ready")
}

// note returns the question, the message or the error below the content.
func (m *model) note() string {
	switch {
	case m.confirm != nil:
		return m.style.Yellow(m.confirm.question + " y or n")
	case m.message != "":
		return clean(m.message)
	case m.lost != nil:
		return m.style.Red("no connection: " + clean(m.lost.Error()))
	}
	return ""
}

// content returns the lines of the view that fit into the terminal.
func (m *model) content() []string {
	n := m.node()
	if n == nil {
		return []string{"waiting for the service …"}
	}
	var lines []string
	begin := m.scroll
	switch m.view {
	case viewTable:
		lines = table(m.status, m.style, m.width, m.selected)
		begin = 0
		for i, line := range lines {
			if strings.Contains(line, "› ") && i >= m.body() {
				begin = i - m.body() + 1
			}
		}
	case viewNode:
		lines = m.wrapped(details(n.node, m.status.Time, m.style))
	case viewLog:
		lines = append([]string{m.style.Bold("log of " + clean(n.node.Node))}, m.wrapped(logLines(m.records, m.style))...)
		m.scroll = min(m.scroll, max(0, len(lines)-m.body()))
		begin = len(lines) - m.body() - m.scroll
	}
	begin = max(0, min(begin, len(lines)-1))
	return lines[begin:min(len(lines), begin+m.body())]
}

// wrapped breaks lines that are wider than the terminal.
func (m *model) wrapped(lines []string) []string {
	return strings.Split(ansi.Hardwrap(strings.Join(lines, "\n"), max(m.width, 20), true), "\n")
}
