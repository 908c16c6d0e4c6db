package program

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
)

// NATSFlags are the flags of commands that connect to NATS.
type NATSFlags struct {
	URLs                      []string
	credentials, nkey         string
	caFile, certFile, keyFile string
	inboxPrefix               string
}

// NATSHelp is the part of a command's help about NATSFlags.
const NATSHelp = `--nats takes the URLs of NATS servers, separated by commas: nats://HOST:PORT, or tls://HOST:PORT
for TLS from the client's side. A user and a password, or a token, may be in the URL; but
other users of this machine see the command line, so that a file is better: one of
credentials (--nats-creds), of an nkey seed (--nats-nkey), or of a certificate (--nats-cert and
--nats-key). --nats FOLDER uses the server that another process of this user has started in the
state folder FOLDER.`

// Add adds the flags to a command. What begins the help of the flag --nats.
func (n *NATSFlags) Add(c *cobra.Command, what string) {
	f := c.Flags()
	f.StringSliceVar(&n.URLs, "nats", nil, what+"; `URL` of a NATS server, or several")
	f.StringVar(&n.credentials, "nats-creds", "", "a `FILE` with NATS credentials: a user's JWT and nkey seed")
	f.StringVar(&n.nkey, "nats-nkey", "", "a `FILE` with the seed of an nkey")
	f.StringVar(&n.caFile, "nats-ca", "", "a `FILE` with the authorities that sign the certificates of the NATS servers")
	f.StringVar(&n.certFile, "nats-cert", "", "a `FILE` with a certificate for the NATS servers")
	f.StringVar(&n.keyFile, "nats-key", "", "a `FILE` with the key of that certificate")
	f.StringVar(&n.inboxPrefix, "nats-inbox", "", "the `PREFIX` of the subjects of answers, if the NATS user may only subscribe to one of its own")
}

// Check returns an error if flags do not fit each other.
func (n *NATSFlags) Check() error {
	isSet := n.credentials+n.nkey+n.caFile+n.certFile+n.keyFile+n.inboxPrefix != ""
	switch {
	case isSet && len(n.URLs) == 0:
		return failure.Usagef("the flags --nats-… say how to connect to NATS servers; name them with --nats URL")
	case n.credentials != "" && n.nkey != "":
		return failure.Usagef("--nats-creds and --nats-nkey exclude each other: a file of credentials has an nkey seed, too")
	case (n.certFile == "") != (n.keyFile == ""):
		return failure.Usagef("--nats-cert and --nats-key need each other")
	}
	return nil
}

// NATSConfig returns how to connect. The name is that of the connection in the servers' reports.
func (a *App) NATSConfig(n *NATSFlags, name string) (cluster.Config, error) {
	c := cluster.Config{
		Credentials: n.credentials, NKeySeed: n.nkey, CAFile: n.caFile, CertFile: n.certFile, KeyFile: n.keyFile,
		InboxPrefix: n.inboxPrefix, Name: name, Logger: a.Slog(),
	}
	for _, text := range n.URLs {
		if info, err := os.Stat(text); err == nil && info.IsDir() {
			found, err := cluster.LocalURL(text)
			if err != nil {
				return c, err
			}
			text = found
		}
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" {
			return c, failure.Usagef("--nats takes URLs such as nats://host:4222, or the state folder of a server")
		}
		c.URLs = append(c.URLs, text)
	}
	return c, nil
}

// ConnectNATS connects to the servers of the flags.
func (a *App) ConnectNATS(ctx context.Context, n *NATSFlags, name string) (*cluster.Conn, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	c, err := a.NATSConfig(n, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, NATSTimeout)
	defer cancel()
	return cluster.Connect(ctx, c)
}

// NATSTimeout bounds the time in which a server must answer.
const NATSTimeout = 10 * time.Second

// Slog returns the command's log as one of package slog.
func (a *App) Slog() *slog.Logger { return slog.New(hclogHandler{a.Logger}) }

// hclogHandler writes the records of package slog to the command's log.
type hclogHandler struct{ logger hclog.Logger }

// Enabled implements [slog.Handler].
func (h hclogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return hclogLevel(level) >= h.logger.GetLevel()
}

// Handle implements [slog.Handler].
func (h hclogHandler) Handle(_ context.Context, r slog.Record) error {
	args := make([]any, 0, 2*r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		args = append(args, a.Key, runner.PrintableLine(a.Value.String()))
		return true
	})
	h.logger.Log(hclogLevel(r.Level), runner.PrintableLine(r.Message), args...)
	return nil
}

// WithAttrs implements [slog.Handler].
func (h hclogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	args := make([]any, 0, 2*len(attrs))
	for _, a := range attrs {
		args = append(args, a.Key, a.Value.String())
	}
	return hclogHandler{h.logger.With(args...)}
}

// WithGroup implements [slog.Handler]. The log has no groups.
func (h hclogHandler) WithGroup(string) slog.Handler { return h }

func hclogLevel(level slog.Level) hclog.Level {
	switch {
	case level < slog.LevelDebug:
		return hclog.Trace
	case level < slog.LevelInfo:
		return hclog.Debug
	case level < slog.LevelWarn:
		return hclog.Info
	case level < slog.LevelError:
		return hclog.Warn
	}
	return hclog.Error
}
