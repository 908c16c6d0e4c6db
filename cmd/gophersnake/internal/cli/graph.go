package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/graph"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
)

func newGraph(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "graph PIPELINE",
		Short: "Draw a pipeline",
		Long: `Draw a pipeline as text, or in the language of Graphviz (dot) or Mermaid. The command
runs nothing and does not need Python.`,
		Example: `  gophersnake graph speech
  gophersnake graph pipeline.yaml --format dot | dot -Tsvg > pipeline.svg
  gophersnake graph pipeline.yaml --format mermaid`,
		Args: program.ArgumentCount(1, 1, "PIPELINE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := failure.CheckChoice("format", format, "text", "dot", "mermaid"); err != nil {
				return err
			}
			p, err := a.Load(args[0])
			if err != nil {
				return err
			}
			var text string
			switch format {
			case "dot":
				text = graph.Dot(p)
			case "mermaid":
				text = graph.Mermaid(p)
			default:
				text = graph.Text(p, a.Style)
			}
			_, err = fmt.Fprint(a.Out, text)
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, dot or mermaid")
	return c
}
