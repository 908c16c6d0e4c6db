package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

func newDemo(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Transcribe a recording of speech, as a first example",
		Long: `Run the bundled example speech on its sample recording, and print the transcript and
the text that was spoken. The first run installs the Python packages of the example into
an environment of their own, which takes about a minute. The packages include the speech
models.`,
		Example: "  gophersnake demo",
		Args:    program.ArgumentCount(0, 0, ""),
		RunE:    func(c *cobra.Command, _ []string) error { return a.demo(c.Context()) },
	}
}

func (a *app) demo(ctx context.Context) error {
	dir, err := a.Unpack("speech")
	if err != nil {
		return err
	}
	p, err := runner.Load(dir)
	if err != nil {
		return err
	}
	inputs, err := input.Resolve(a.In, a.Logger.Warn, []string{"@" + filepath.Join(dir, "sample.wav")})
	if err != nil {
		return err
	}
	out := &demoOutput{app: a, spoken: string(examples.Files("speech")["sample.txt"])}
	if err := (&program.Job{App: a.App, Pipeline: p, Inputs: inputs, Out: out}).RunOnce(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "\nTo transcribe a recording of yours, or live speech from a microphone:\n"+
		"  gophersnake run speech --input FILE.wav\n  arecord -f S16_LE -r 16000 | gophersnake stream speech\n")
	return nil
}

// demoOutput is an [output.Writer] that compares a transcript with the spoken text.
type demoOutput struct {
	app    *app
	spoken string
}

func (d *demoOutput) Write(o output.Outcome) (failed, err error) {
	if o.Err != nil {
		return o.Err, nil
	}
	lines, ok := o.Value.([]any)
	if !ok {
		return runner.NewError(runner.KindOther, fmt.Sprintf("the example speech returned no transcript but %.200v", o.Value)), nil
	}
	style := d.app.Style
	var b strings.Builder
	b.WriteString("\n" + style.Dim("heard") + "\n")
	var heard []string
	for _, each := range lines {
		line, _ := each.(ipc.Object)
		start, _ := line.Get("start")
		end, _ := line.Get("end")
		text, _ := line.Get("text")
		fmt.Fprintf(&b, "  %s  %v\n", style.Cyan(fmt.Sprintf("%5.2f s to %5.2f s", start, end)), runner.PrintableLine(fmt.Sprint(text)))
		heard = append(heard, wordsOf(fmt.Sprint(text))...)
	}
	b.WriteString("\n" + style.Dim("said") + "\n" + terminal.Indent(d.spoken))
	spoken := wordsOf(d.spoken)
	fmt.Fprintf(&b, "\n%s\n", style.Bold(fmt.Sprintf("%d of %d words are right.", commonWords(spoken, heard), len(spoken))))
	_, err = fmt.Fprint(d.app.Out, b.String())
	return nil, err
}

// Finish implements [output.Writer].
func (d *demoOutput) Finish(bool) error { return nil }

// Discard implements [output.Writer].
func (d *demoOutput) Discard() {}

// wordsOf returns the words of a text in lower case, without punctuation.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return strings.ContainsRune(" \t\r\n.,;:!?\"()", r)
	})
}

// commonWords returns the length of the longest common subsequence of two lists of words.
func commonWords(a, b []string) int {
	row := make([]int, len(b)+1)
	for _, word := range a {
		before := slices.Clone(row)
		for j := range b {
			if word == b[j] {
				row[j+1] = before[j] + 1
			} else {
				row[j+1] = max(before[j+1], row[j])
			}
		}
	}
	return row[len(b)]
}
