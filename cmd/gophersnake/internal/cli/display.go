package cli

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/gophersnake/gophersnake/runner"
)

// display shows how a pipeline goes on: a line for each node where standard error
// is a terminal, and otherwise only what somebody should know, in the log.
type display struct {
	app  *app
	bars *mpb.Progress // nil without a terminal
	all  []*mpb.Bar

	mu     sync.Mutex
	env    *statusLine
	nodes  map[string]*statusLine
	stream *streamLine // nil where there is none
	width  int         // of the widest name
	ended  bool
}

// line is a line on the terminal.
type line interface {
	// render returns the line as it stands now, no wider than width. Ended says that
	// it will not change any more.
	render(st style, nameWidth, width int, now time.Time, ended bool) string
}

// newDisplay shows the given nodes, each of which will work on that many inputs.
func (a *app) newDisplay(nodes []string, inputs int) *display {
	d := a.newLog()
	if isTerminal(a.err) && os.Getenv("TERM") != "dumb" {
		d.bars = mpb.New(mpb.WithOutput(a.err), mpb.WithRefreshRate(100*time.Millisecond))
		a.log.redirect(d.bars)
	}
	for _, id := range nodes {
		d.width = max(d.width, len([]rune(id)))
	}
	for i, id := range nodes {
		d.nodes[id] = &statusLine{name: id, inputs: inputs}
		d.show(d.nodes[id], i)
	}
	return d
}

// newLog shows what there is to say in the log alone.
func (a *app) newLog() *display { return &display{app: a, nodes: make(map[string]*statusLine)} }

// show gives a line its place on the terminal.
func (d *display) show(line line, place int) {
	if d.bars == nil {
		return
	}
	fill := mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		// A Ctrl-C that the terminal echoes moves the cursor to the right.
		_, err := io.WriteString(w, "\r"+line.render(d.app.errStyle, d.width, s.AvailableWidth-1, time.Now(), d.ended))
		return err
	})
	if bar, err := d.bars.Add(1, fill, mpb.BarFillerTrim(), mpb.BarPriority(place)); err == nil {
		d.all = append(d.all, bar)
	}
}

// addStream adds a line for a stream.
func (d *display) addStream() *streamLine {
	d.stream = &streamLine{}
	d.width = max(d.width, len("stream"))
	d.show(d.stream, 0)
	return d.stream
}

// update changes what lines show.
func (d *display) update(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// building takes the news of the environment's making.
func (d *display) building(p runner.BuildProgress) {
	d.mu.Lock()
	first := d.env == nil
	if first {
		d.env = &statusLine{name: "environment", started: time.Now()}
		d.width = max(d.width, len(d.env.name))
	}
	line := d.env
	news := line.stage != p.Stage
	line.stage, line.detail = p.Stage, p.Line
	d.mu.Unlock()
	if first {
		d.show(line, -1)
	}
	if d.bars == nil && news {
		d.app.logger.Named("environment").Info(p.Stage)
	}
}

// built says that there is nothing more to come from the environment.
func (d *display) built() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.env != nil && d.env.finished.IsZero() {
		d.env.finished = time.Now()
	}
}

// event takes the news of a node.
func (d *display) event(e runner.Event) {
	switch e := e.(type) {
	case runner.CallRetried, runner.BreakerChanged:
		d.app.logger.Warn(e.String())
	case runner.Reloaded:
		d.app.logger.Info(e.String())
	case runner.WorkerStarted:
		d.built() // or no worker could start
	case runner.SetupProgress:
		d.built()
		if d.bars == nil {
			d.app.logger.Info(e.String())
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if line := d.nodes[nodeOf(e)]; line != nil {
		line.take(e)
	}
	if d.stream != nil {
		d.stream.take(e)
	}
}

func nodeOf(e runner.Event) string {
	switch e := e.(type) {
	case runner.WorkerStarted:
		return e.Node
	case runner.CallRetried:
		return e.Node
	case runner.SetupProgress:
		return e.Node
	case runner.NodeStarted:
		return e.Node
	case runner.NodeFinished:
		return e.Node
	}
	return ""
}

// close leaves the lines as they are and gives the terminal back. It may be called
// twice.
func (d *display) close() {
	d.built()
	d.mu.Lock()
	again := d.ended
	d.ended = true
	d.mu.Unlock()
	if d.bars == nil || again {
		return
	}
	d.app.log.end(func() io.Writer {
		for _, bar := range d.all {
			bar.SetTotal(1, true)
		}
		d.bars.Wait()
		return d.app.err
	})
}
