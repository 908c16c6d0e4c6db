package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/runner"
)

func newDemo(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "See it work: a recording of speech becomes text",
		Long: `Run the bundled example speech on its sample recording, and print the transcript
beside what was said. The first time, its Python packages are installed into an
environment of their own, which takes a minute; they carry their models.`,
		Example: "  gophersnake demo",
		Args:    needs(0, 0, ""),
		RunE:    func(c *cobra.Command, _ []string) error { return a.demo(c.Context()) },
	}
}

func (a *app) demo(ctx context.Context) error {
	dir, err := a.unpack("speech")
	if err != nil {
		return err
	}
	p, err := runner.Load(dir)
	if err != nil {
		return err
	}
	sample := filepath.Join(dir, "sample.wav")
	inputs, err := readSources(a.in, a.logger.Warn, []string{"@" + sample})
	if err != nil {
		return err
	}
	out := &demoOutput{app: a, said: string(examples.Files("speech")["sample.txt"])}
	if err := (&job{app: a, pipeline: p, inputs: inputs, out: out}).do(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\nThe same with a recording of yours, or live from a microphone:\n"+
		"  gophersnake run speech --input FILE.wav\n  arecord -f S16_LE -r 16000 | gophersnake stream speech\n")
	return nil
}

// demoOutput prints a transcript beside what was said.
type demoOutput struct {
	app  *app
	said string
}

func (d *demoOutput) take(o outcome) (failure, err error) {
	if o.err != nil {
		return o.err, nil
	}
	lines, ok := o.value.([]any)
	if !ok {
		return runner.NewError(runner.KindOther, fmt.Sprintf("the example speech returned no transcript but %.200v", o.value)), nil
	}
	st := d.app.outStyle
	var b strings.Builder
	b.WriteString("\n" + st.dim("heard") + "\n")
	var heard []string
	for _, each := range lines {
		line, _ := each.(map[string]any)
		fmt.Fprintf(&b, "  %s  %v\n", st.cyan(fmt.Sprintf("%5.2f s to %5.2f s", line["start"], line["end"])), line["text"])
		heard = append(heard, words(fmt.Sprint(line["text"]))...)
	}
	b.WriteString("\n" + st.dim("said") + "\n")
	for line := range strings.Lines(d.said) {
		b.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	said := words(d.said)
	fmt.Fprintf(&b, "\n%s\n", st.bold(fmt.Sprintf("%d of %d words are right.", commonWords(said, heard), len(said))))
	_, err = fmt.Fprint(d.app.out, b.String())
	return nil, err
}

func (d *demoOutput) finish(bool) error { return nil }
func (d *demoOutput) discard()          {}

// words are the words of a text, without case and punctuation.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return strings.ContainsRune(" \t\r\n.,;:!?\"()", r)
	})
}

// commonWords is how many words two texts have in common, in the same order.
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
