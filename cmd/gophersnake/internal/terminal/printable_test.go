package terminal

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/runner"
)

const evil = "\x1b]52;c;aGk=\a\u009b2J\u202e\r\ngnp"

func TestTablesLinesAndShortTextsArePrintable(t *testing.T) {
	table, width := Table([][]string{{"NODE", "DOC"}, {"n", evil}}, Style{})
	assert.Equal(t, runner.Printable(table), table)
	assert.Equal(t, 6+len(`\x1b]52;c;aGk=\x07\x9b2J\u202e\x0d\ngnp`), width)
	n := &nodeLine{name: "n", inputs: 1}
	n.update(runner.SetupProgress{Message: evil})
	e := &environmentLine{started: begin, stage: "installing", detail: evil}
	for _, text := range []string{rendered(n, false), rendered(e, false), Shorten(evil, 100)} {
		assert.Equal(t, runner.PrintableLine(text), text)
		assert.Contains(t, text, `\x1b]52`)
	}
}
