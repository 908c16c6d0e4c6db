package worker

import (
	"os/exec"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
)

// handshake is go-plugin's: without the cookie a worker that a person runs by
// hand says what it is instead of waiting for a supervisor.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "GOPHERSNAKE_WORKER",
	MagicCookieValue: "b3d1c2f0",
}

// spawn has go-plugin start the process and returns the socket that the worker
// announced. go-plugin is done with then: nothing of its own is dialled, now or
// at the end.
func (w *Worker) spawn() (string, error) {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          plugin.PluginSet{},
		AllowedProtocols: []plugin.Protocol{"msgpack"},
		StartTimeout:     w.config.StartTimeout + time.Minute, // ours comes first, and dumps the stacks
		SkipHostEnv:      true,
		Logger:           pluginLogger{w.config.Logger},
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: w.sockets},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (runner.Runner, error) {
			w.process.cmd.Env = append(append([]string{}, w.config.Env...), spec.Env...)
			w.process.announced, w.process.socketDir = spec.Env, socketDir
			return w.process, nil
		},
	})
	addr, err := client.Start()
	if err != nil {
		return "", err
	}
	return addr.String(), nil
}
