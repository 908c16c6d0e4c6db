package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/ipc"
)

func TestLinesAreJSONOrText(t *testing.T) {
	typed := nodeOfType(t, "typed")
	got := commandWithInput(t, "1\n\n\"a\"\r\n  [2]\nnull", "stream", typed)
	assert.Equal(t, result{0, "\"int\"\n\"str\"\n\"list\"\n\"NoneType\"\n", ""}, got)
	echo := nodeOfType(t, "echo")
	got = commandWithInput(t, "1\n\ngrüße\r\nend", "stream", echo, "--input-format", "text")
	assert.Equal(t, result{0, "\"1\"\n\"\"\n\"grüße\"\n\"end\"\n", ""}, got)
	assert.Equal(t, result{}, commandWithInput(t, "", "stream", echo))
}

func TestTheFormatOfAFileIsDetectedFromItsFirstBytes(t *testing.T) {
	heard, echo := nodeOfType(t, "heard"), nodeOfType(t, "echo")
	fixtures.Chdir(t, map[string]string{"a.jsonl": "1\n2\n", "b.dat": fixtures.WAV(t, fixtures.Beep), "RI": "\"RI\"", "r": "R"})
	assert.Equal(t, "1\n2\n", succeed(t, "stream", echo, "--input", "a.jsonl"))
	assert.Equal(t, "[8000,2,2,0]\n", succeed(t, "stream", heard, "--input", "b.dat"))
	assert.Equal(t, "\"RI\"\n", succeed(t, "stream", echo, "--input", "RI"))
	assert.Contains(t, command(t, "stream", echo, "--input", "r").err, "r:1: invalid JSON")
}

func TestTheErrorOfALineNamesItsPlace(t *testing.T) {
	for bad, want := range map[string]string{
		"{":                           "error: serialization error: standard input:4: invalid JSON: unexpected EOF, at byte 1\n",
		"1 2":                         "error: serialization error: standard input:4: invalid JSON: unexpected data after the value\n",
		"[1, 1234567890123456789012]": "standard input:4: serialization error: input[1]: the number 1234567890123456789012 does not fit in 64 bits\n",
	} {
		got := commandWithInput(t, "1\n\n2\n"+bad+"\n3\n", "stream", nodeOfType(t, "echo"))
		assert.Equal(t, 9, got.code)
		assert.Equal(t, "1\n2\n", got.out, "the results before the error")
		assert.Contains(t, got.err, want)
		assert.Contains(t, got.err, "\ndelivered: 2\n")
	}
	got := commandWithInput(t, "1\nx\n", "stream", nodeOfType(t, "echo"), "--output", "jsonl")
	assert.Contains(t, got.err, "each line must be one JSON value; if the lines are text, use --input-format text")
	var document struct {
		Error struct {
			Kind     string
			Metadata map[string]string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.err), &document), got.err)
	assert.Equal(t, "serialization", document.Error.Kind)
	assert.Equal(t, map[string]string{"delivered": "1"}, document.Error.Metadata)

	got = commandWithInput(t, "a\n\xff\n", "stream", nodeOfType(t, "echo"), "--input-format", "text")
	assert.Equal(t, 9, got.code)
	assert.Contains(t, got.err, "standard input:2: the line is not valid UTF-8 text")
}

// samples16 returns 16-bit samples, each at half of the full scale.
func samples16(n int) string { return strings.Repeat("\x00\x40", n) }

func TestARecordingComesInChunks(t *testing.T) {
	heard := nodeOfType(t, "heard")
	for _, c := range []struct {
		data string
		args string
		want string
	}{
		{samples16(500), "--input-format pcm --rate 16000", "[16000,1,320,0.5]\n[16000,1,180,0.5]\n"},
		{samples16(500), "--input-format pcm --rate 16000 --chunk 1s", "[16000,1,500,0.5]\n"},
		{samples16(3), "--input-format pcm --rate 8000 --chunk 1us", "[8000,1,1,0.5]\n[8000,1,1,0.5]\n[8000,1,1,0.5]\n"},
		{samples16(4) + "x", "--input-format pcm --rate 8000 --channels 2", "[8000,2,2,0.5]\n"},
		{"\x00\x00\x80\xbe", "--input-format pcm --rate 8000 --sample-format f32le", "[8000,1,1,-0.25]\n"},
		{fixtures.WAV(t, fixtures.Beep), "--chunk 1us --input-format wav", "[8000,2,1,0]\n[8000,2,1,-0.5]\n"},
		{fixtures.WAV(t, &ipc.Audio{Rate: 8000, Channels: 1}), "", ""},
	} {
		got := commandWithInput(t, c.data, append([]string{"stream", heard}, strings.Fields(c.args)...)...)
		assert.Equal(t, result{0, c.want, ""}, got, c.args)
	}
}

func TestARecordingOfUnknownLengthIsStreamed(t *testing.T) {
	for _, length := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff"} {
		l := stream(t, nodeOfType(t, "heard"))
		l.send("RIFF" + length + "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data" + length)
		for range 3 {
			l.send(samples16(160))
			assert.Equal(t, "[8000,1,160,0.5]", l.receive())
		}
		l.send(samples16(7))
		assert.Equal(t, result{0, "[8000,1,7,0.5]\n", ""}, l.end())
	}
}

func TestInputThatIsNotARecordingIsAnError(t *testing.T) {
	for data, want := range map[string]string{
		"ID3\x04":                  "cannot read standard input: WAV: this is MP3, which is not supported\ndelivered: 0\nhint: convert it",
		"":                         "cannot read standard input: WAV: the file is empty",
		"RIFF\x00\x00\x00\x00WAVE": "cannot read standard input: WAV: there is no fmt chunk",
	} {
		got := commandWithInput(t, data, "stream", nodeOfType(t, "heard"), "--input-format", "wav")
		assert.Equal(t, 9, got.code)
		assert.Contains(t, got.err, want)
	}
}

func TestAnInputThatBreaksOffIsAnError(t *testing.T) {
	for format, c := range map[string]struct{ data, node, want string }{
		"jsonl": {"1\n2", "echo", "1\n"},
		"text":  {"1\n2", "echo", "\"1\"\n"},
		"wav":   {fixtures.WAV(t, fixtures.Beep)[:60], "heard", ""},
		"pcm":   {samples16(200), "heard", "[8000,1,160,0.5]\n"},
	} {
		t.Run(format, func(t *testing.T) {
			args := []string{"stream", nodeOfType(t, c.node), "--input-format", format}
			if format == "pcm" {
				args = append(args, "--rate", "8000")
			}
			var out, err bytes.Buffer
			broken := io.MultiReader(strings.NewReader(c.data), iotest.ErrReader(errors.New("the line is dead")))
			assert.Equal(t, 7, newApp(broken, &out, &err).run(t.Context(), args))
			assert.Equal(t, c.want, out.String())
			assert.Equal(t, fmt.Sprintf("error: io error: read standard input: the line is dead\ndelivered: %d\n", strings.Count(c.want, "\n")), err.String())
		})
	}
}

func TestTheErrorOfAnItemNamesItsPlace(t *testing.T) {
	deep := strings.Repeat("[", 500) + strings.Repeat("]", 500)
	got := commandWithInput(t, "1\n"+deep+"\n2\n", "stream", nodeOfType(t, "echo"))
	assert.Equal(t, 8, got.code)
	assert.Equal(t, "1\n", got.out)
	assert.Contains(t, got.err, "standard input:2: ")
}

func TestARecordingInRealTime(t *testing.T) {
	got := commandWithInput(t, fixtures.WAV(t, fixtures.Beep), "stream", nodeOfType(t, "heard"), "--realtime")
	assert.Equal(t, result{0, "[8000,2,2,0]\n", ""}, got)
	for _, format := range []string{"auto", "jsonl", "text"} {
		got := commandWithInput(t, "1\n", "stream", nodeOfType(t, "echo"), "--realtime", "--input-format", format)
		assert.Equal(t, 2, got.code)
		assert.Contains(t, got.err, "error: --realtime needs a recording; standard input is ")
		assert.Contains(t, got.err, "see: gophersnake stream --help")
	}
}
