package printable

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
)

func TestControlCharactersAreEscapedVisibly(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"plain, höhe, 日本, עברית, 🐍": "plain, höhe, 日本, עברית, 🐍",
		"two\nlines\tand\r\nthree":  "two\nlines\tand\r\nthree",
		"\x1b]52;c;aGk=\a":          `\x1b]52;c;aGk=\x07`,
		"\x1b[2J\x1b[H":             `\x1b[2J\x1b[H`,
		"over\rwritten":             `over\x0dwritten`,
		"at the end\r":              `at the end\x0d`,
		"\x00\x08\x7f":              `\x00\x08\x7f`,
		"\u009b31m":                 `\x9b31m`,
		"\x9b31m, not UTF-8":        `\x9b31m, not UTF-8`,
		"\u202egnp.exe\u2066":       `\u202egnp.exe\u2066`,
		"a\u2028b\u2029c":           `a\u2028b\u2029c`,
		"\ufffd stays":              "\ufffd stays",
	} {
		assert.Equal(t, want, Text(in))
	}
	assert.Equal(t, `one\ntwo\x0d\nthree`, Line("one\ntwo\r\nthree"))
}

func TestTextThatIsSafeIsNotCopied(t *testing.T) {
	text := strings.Repeat("plain text, höhe\n", 100)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = Text(text) }))
}

func FuzzNothingUnsafeIsLeft(f *testing.F) {
	f.Add("\x1b[31m\u202e\xff\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, lines := range []bool{true, false} {
			shown := escape(text, lines)
			assert.True(t, utf8.ValidString(shown))
			assert.Equal(t, shown, escape(shown, lines))
			for _, r := range shown {
				assert.False(t, Unsafe(r) || r < ' ' && (!lines || !strings.ContainsRune("\n\t\r", r)) && r != '\t' || r == 0x7f, "%q", r)
			}
		}
	})
}

func TestARecordCannotForgeAnother(t *testing.T) {
	var out bytes.Buffer
	logger := NewLogger(hclog.New(&hclog.LoggerOptions{Output: &out, Name: "node"}))
	forged := "fine\n2026-01-01T00:00:00.000Z [ERROR] runner: the disk is full\x1b[2J"
	logger.Info(forged, "key\nforged", forged, "pair", "\u202eevil")
	logger.Named(forged).With("more\n", forged).Warn(forged)
	text := out.String()
	assert.NotContains(t, text, "\x1b")
	assert.NotContains(t, text, "\u202e")
	records := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "  ") {
			records++
		}
	}
	assert.Equal(t, 2, records, text)
}

func TestOnlyTheSupervisorSetsItsKeys(t *testing.T) {
	var out bytes.Buffer
	logger := NewLogger(hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: true, DisableTime: true}).With("node", "a"))
	logger.Info("x", "node", "b", "worker", 1, "call", 2, "attempt", 3, "@level", "off", "nodes", 4)
	assert.JSONEq(t, `{"@level": "info", "@message": "x", "node": "a", "nodes": 4, "extra.node": "b",
		"extra.worker": 1, "extra.call": 2, "extra.attempt": 3, "extra.@level": "off"}`, out.String())
}
