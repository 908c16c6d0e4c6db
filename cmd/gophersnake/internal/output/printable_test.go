package output

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// evil writes the clipboard of a terminal, clears it with a C1 character, and reverses text.
const evil = "\x1b]52;c;aGk=\a\u009b2J\u202egnp\x7f"

func TestResultsForPeopleArePrintable(t *testing.T) {
	for _, doc := range []any{evil, map[string]any{evil: evil}, []any{evil}, fileReference{File: evil, Media: document.Media{Description: evil}}} {
		text, err := prettyText(doc)
		require.NoError(t, err)
		assert.Equal(t, runner.Printable(text), text)
		assert.Contains(t, text, "gnp")
	}
	text, err := prettyText("two\nlines, höhe 🐍")
	require.NoError(t, err)
	assert.Equal(t, "two\nlines, höhe 🐍\n", text)
}

func TestJSONIsPrintableAndKeepsItsValue(t *testing.T) {
	value := map[string]any{evil: []any{evil, "\ufffd <höhe> 🐍"}}
	text, err := document.Encode(value, "  ")
	require.NoError(t, err)
	assert.Equal(t, runner.Printable(string(text)), string(text))
	assert.True(t, strings.Contains(string(text), `\u009b2J\u202egnp\u007f`), string(text))
	var back map[string]any
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, value, back)
}
