package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/runner"
)

func TestResultsOfSeveralSinksNameTheirNode(t *testing.T) {
	both := fixtures.Pipeline(t, "nodes: [{id: a, node_type: echo}, {id: b, node_type: typed}]")
	got := commandWithInput(t, "1\n", "stream", both)
	assert.ElementsMatch(t, []string{`{"node":"a","result":1}`, `{"node":"b","result":"int"}`}, strings.Split(strings.TrimSpace(got.out), "\n"))
	got = commandWithInput(t, "1\n", "stream", both, "--output", "pretty")
	assert.Contains(t, got.out, "b\n  int\n")
}

func TestResultsForPeople(t *testing.T) {
	got := commandWithInput(t, "\"a\\nb\"\n3\n{\"k\": [1, 2]}\n", "stream", nodeOfType(t, "echo"), "--output", "pretty")
	assert.Equal(t, "a\nb\n3\n- k:\n    - 1\n    - 2\n", got.out)
}

func TestAnOutputFileGrowsResultByResult(t *testing.T) {
	hello := nodeOfType(t, "echo")
	t.Chdir(t.TempDir())
	l := stream(t, hello, "--output", "deep/out.jsonl")
	l.send("1\n")
	require.Eventually(t, func() bool {
		content, err := os.ReadFile("deep/out.jsonl")
		return err == nil && string(content) == "1\n"
	}, 10*time.Second, time.Millisecond)
	l.send("{\"a\": 2}\nx\n")
	assert.Equal(t, 9, l.end().code)
	content, err := os.ReadFile("deep/out.jsonl")
	require.NoError(t, err)
	assert.Equal(t, "1\n{\"a\":2}\n", string(content), "results that were delivered stay")
}

func TestMediaInTheResultsOfAStreamAreWrittenToFiles(t *testing.T) {
	made := nodeOfType(t, "made")
	t.Chdir(t.TempDir())
	got := commandWithInput(t, "audio\nbytes\nnan\nnan\n", "stream", made, "--input-format", "text", "--output-dir", "files")
	require.Zero(t, got.code, got.err)
	assert.Equal(t, `{"$file":"files/stdin-1-n.wav","type":"audio","rate":8000,"channels":2,"seconds":0.00025}
{"$file":"files/stdin-2-n.bin","type":"bytes","bytes":3}
[1.5,null]
[1.5,null]
`, got.out)
	assert.FileExists(t, "files/stdin-1-n.wav")
	assert.Equal(t, 1, strings.Count(got.err, "JSON cannot express NaN"), "warned once: %s", got.err)
}

func TestTheLargestWindow(t *testing.T) {
	got := commandWithInput(t, "1\n", "stream", nodeOfType(t, "echo"), "--window", fmt.Sprint(runner.LargestWindow))
	assert.Equal(t, result{0, "1\n", ""}, got)
}

func TestInvalidArgumentsOfStream(t *testing.T) {
	echo := nodeOfType(t, "echo")
	fixtures.Chdir(t, map[string]string{"in.jsonl": "1\n", "dir/x": ""})
	for args, want := range map[string]string{
		"":                                  "the PIPELINE is missing",
		"p q":                               "unexpected argument \"q\"",
		"p --input-format mp3":              "--input-format takes auto, jsonl, text, wav or pcm, not \"mp3\"",
		"p --input-format pcm":              "--input-format pcm needs --rate, the number of samples per second, such as 16000",
		"p --rate 16000":                    "--rate needs --input-format pcm; other formats have it in their header",
		"p --input-format wav --channels 2": "--channels needs --input-format pcm",
		"p --input-format pcm --rate 1 --channels 0":        "--channels takes a number from 1 to 65535, not 0",
		"p --input-format pcm --rate 1 --sample-format s24": "--sample-format takes s16le or f32le, not \"s24\"",
		"p --chunk 0":                            "it takes a time",
		"p --window -1":                          "--window takes a number from 1 to 4096, not -1",
		"p --window 4097":                        "--window takes a number from 1 to 4096, not 4097",
		"p --output json":                        "the output of a stream cannot be one JSON document; --output jsonl writes one result per line",
		"p --output x.json":                      "--output takes pretty, jsonl or a file that ends in .jsonl or .txt, not \"x.json\"",
		"p --input in.jsonl --output ./in.jsonl": "--output ./in.jsonl is the input",
		"p --input dir":                          "the input dir is a folder; a stream reads one file",
		"p --param x":                            "--param takes NODE.KEY=VALUE",
	} {
		fields := strings.Fields(args)
		if len(fields) > 0 {
			fields[0] = echo
		}
		got := command(t, append([]string{"stream"}, fields...)...)
		assert.Equal(t, 2, got.code, args)
		text := strings.ReplaceAll(got.err, `\"`, `"`) // if it is JSON
		assert.Contains(t, text, want)
		if !strings.HasPrefix(text, "{") {
			assert.Contains(t, text, "see: gophersnake stream --help")
		}
	}
	assert.Contains(t, command(t, "stream", "nowhere").err, "io error: there is no pipeline nowhere")
	for args, want := range map[string]string{
		"--input nowhere.jsonl":            "io error: read the input: stat nowhere.jsonl: no such file or directory",
		"--output in.jsonl/x.jsonl":        "io error: write in.jsonl/x.jsonl: ",
		"--input in.jsonl --python /no/py": "cannot find the interpreter",
	} {
		got := command(t, append([]string{"stream", echo}, strings.Fields(args)...)...)
		assert.NotZero(t, got.code)
		assert.Contains(t, got.err, want)
	}
}
