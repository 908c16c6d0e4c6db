package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/top"
	"github.com/gophersnake/gophersnake/runner/serve"
)

type topFlags struct {
	tokenFile string
	once      bool
	json      bool
}

func newTop(a *app) *cobra.Command {
	var flags topFlags
	c := &cobra.Command{
		Use:   "top [URL]",
		Short: "Show how a service is, live",
		Long: `Show the pipelines of gophersnake serve in the terminal, live: workers, queue, rate, the
50th and 99th percentile of the calls of the last minute, breakers, the last death and the
log of each node. URL is http://127.0.0.1:8000 by default.

WORKERS are those that are busy, of all that serve, and the spares: 1/2 +1. With --once, or
if standard output is no terminal, the command prints one table and exits: with 0 if the
service is ready, and with 1 if not. --json prints the document of GET /v1/status.`,
		Example: `  gophersnake top
  gophersnake top https://models.example:8443 --token-file token
  gophersnake top --json | jq '.pipelines[].nodes[] | {node, state, recent}'`,
		Args: program.ArgumentCount(0, 1, "URL"),
		RunE: func(c *cobra.Command, args []string) error {
			address := "http://127.0.0.1:8000"
			if len(args) > 0 {
				address = args[0]
			}
			return a.top(c.Context(), address, flags)
		},
	}
	f := c.Flags()
	f.StringVar(&flags.tokenFile, "token-file", "", "a `FILE` whose first token the requests have")
	f.BoolVar(&flags.once, "once", false, "print the table once")
	f.BoolVar(&flags.json, "json", false, "print the status once, as JSON")
	return c
}

// top is the command top without the parsing of flags.
func (a *app) top(ctx context.Context, address string, flags topFlags) error {
	token := ""
	if flags.tokenFile != "" {
		tokens, err := serve.ReadTokens(flags.tokenFile)
		if err != nil {
			return err
		}
		token = tokens[0].Secret
	}
	client, err := top.NewClient(address, token)
	if err != nil {
		return failure.Usagef("%w", err)
	}
	in, isFile := a.In.(*os.File)
	if isFile && !flags.once && !flags.json && terminal.Is(a.In) && terminal.Is(a.Out) {
		return top.Run(ctx, client, in, a.Out, a.Style)
	}
	status, text, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if !flags.json {
		text = []byte(top.Table(status, a.Style, terminal.Width(a.Out)))
	}
	if _, err := a.Out.Write(text); err != nil {
		return err
	}
	if !status.Ready {
		return failure.Silent{Code: 1}
	}
	return nil
}
