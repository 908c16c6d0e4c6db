package program

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// JobsHelp is the part of a command's help about JobsClient.
const JobsHelp = `The jobs are in the NATS servers that --nats names, or in the state folder of "gophersnake
serve --jobs" on this machine. The default is the state folder that serve uses if it is given
none: gophersnake in $XDG_STATE_HOME, or in ~/.local/state.

` + NATSHelp

// JobsClient are the flags of commands that use jobs.
type JobsClient struct{ nats NATSFlags }

// Add adds the flags to a command.
func (j *JobsClient) Add(c *cobra.Command) { j.nats.Add(c, "where the jobs are") }

// StateDir returns the default state folder.
func StateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "gophersnake"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", runner.Wrap(err, runner.KindIO, "find the state folder")
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "gophersnake", "state"), nil
	}
	return filepath.Join(home, ".local", "state", "gophersnake"), nil
}

// Open connects to the servers of the jobs. The caller closes the connection.
func (j *JobsClient) Open(ctx context.Context, a *App) (*jobs.Store, *cluster.Conn, error) {
	if err := j.nats.Check(); err != nil {
		return nil, nil, err
	}
	if len(j.nats.URLs) == 0 {
		dir, err := StateDir()
		if err != nil {
			return nil, nil, err
		}
		url, err := cluster.LocalURL(dir)
		if err != nil {
			return nil, nil, withJobsHint(err)
		}
		j.nats.URLs = []string{url}
	}
	config, err := a.NATSConfig(&j.nats, "gophersnake jobs")
	if err != nil {
		return nil, nil, withJobsHint(err)
	}
	return ConnectJobs(ctx, config)
}

// ConnectJobs connects to NATS and opens the jobs there.
func ConnectJobs(ctx context.Context, config cluster.Config) (*jobs.Store, *cluster.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, NATSTimeout)
	defer cancel()
	conn, err := cluster.Connect(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	store, err := jobs.Open(ctx, conn, JobsConfig(config.Logger))
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return store, conn, nil
}

// withJobsHint says what to do if no server has been found in a state folder.
func withJobsHint(err error) error {
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return e.WithHint("start gophersnake serve --jobs, or name its state folder or NATS servers with --nats")
	}
	return err
}

// JobsConfig returns how the commands open the jobs.
func JobsConfig(logger *slog.Logger) jobs.Config {
	return jobs.Config{OrderedMaps: true, Logger: logger}
}
