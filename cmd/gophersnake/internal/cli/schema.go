package cli

import (
	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of pipelines",
		Long: `Print the JSON Schema of pipelines. An editor that knows it completes and checks
pipeline files. In a YAML file, say where it is in the first line:

  # yaml-language-server: $schema=pipeline.schema.json`,
		Example: `  gophersnake schema > pipeline.schema.json`,
		Args:    needs(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(manifest.Schema)
			return err
		},
	}
}
