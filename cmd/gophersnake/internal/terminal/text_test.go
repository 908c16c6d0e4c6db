package terminal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTextsForPeople(t *testing.T) {
	assert.Equal(t, "1 node", Plural(1, "node"))
	assert.Equal(t, "0 nodes", Plural(0, "node"))
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 64 << 20: "64.0 MiB", 1 << 62: "4.0 EiB"} {
		assert.Equal(t, want, ByteCount(n))
	}
	for d, want := range map[time.Duration]string{1234 * time.Millisecond: "1.23 s", 12345 * time.Millisecond: "12.3 s", 150 * time.Second: "2m30s"} {
		assert.Equal(t, want, Seconds(d))
	}
	assert.Equal(t, "a b c", Shorten(" a\n b\tc ", 5))
	assert.Equal(t, "a b…", Shorten("a b c", 4))
	assert.Equal(t, "  a\n  b\n", Indent("a\nb\n"))
}

func TestTableAlignsItsColumns(t *testing.T) {
	text, width := Table([][]string{{"NAME", "N"}, {"größer", "1"}}, Style{Colors: true})
	assert.Equal(t, "\x1b[2mNAME    N\x1b[0m\ngrößer  1\n", text)
	assert.Equal(t, len("NAME    N"), width)
}
