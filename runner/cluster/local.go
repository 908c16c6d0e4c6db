package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/gophersnake/gophersnake/runner"
)

// localServer is a NATS server in this process, with its streams in a state folder:
//
//	lock      held by the process of the server
//	nats.url  the URL with the token, while the server runs
//	store     the streams
type localServer struct {
	server *server.Server
	token  string
	dir    string
	lock   *flock.Flock
	once   sync.Once
}

// startTimeout bounds the time until a server that has read its streams listens.
const startTimeout = 10 * time.Second

// startLocal starts a server. Its error is of kind io.
func startLocal(c Config, logger *slog.Logger) (_ *localServer, err error) {
	if c.StateDir == "" {
		return nil, runner.NewError(runner.KindIO, "connect to NATS: there is neither the URL of a server nor a state folder for one").
			WithHint("set Config.URLs, or Config.StateDir for a server in this process")
	}
	s := &localServer{dir: c.StateDir, token: rand.Text() + rand.Text()}
	if err := s.claim(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	opts, err := s.options(c)
	if err != nil {
		return nil, err
	}
	if s.server, err = server.NewServer(opts); err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "start the NATS server")
	}
	s.server.SetLoggerV2(natsLogger{logger}, false, false, false)
	s.server.Start()
	if !s.server.ReadyForConnections(startTimeout) {
		return nil, runner.NewError(runner.KindIO, "the NATS server does not start").
			WithHint("its log says why; see Config.Logger. Another program may listen at " + cmp.Or(c.Listen, defaultListen))
	}
	if !s.server.JetStreamEnabled() {
		return nil, runner.NewError(runner.KindIO, "the NATS server cannot open its streams in "+s.dir).
			WithHint("its log says why; see Config.Logger")
	}
	if err := s.publish(); err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "write the URL of the NATS server")
	}
	return s, nil
}

// claim creates the state folder and locks it for this process.
func (s *localServer) claim() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return runner.Wrap(err, runner.KindIO, "create the state folder")
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return runner.Wrap(err, runner.KindIO, "open the state folder")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return runner.NewError(runner.KindIO, fmt.Sprintf("other users may read the state folder %s (mode %04o)", s.dir, info.Mode().Perm())).
			WithHint("chmod 700 " + s.dir)
	}
	s.lock = flock.New(filepath.Join(s.dir, "lock"), flock.SetPermissions(0o600))
	locked, err := s.lock.TryLock()
	if err != nil {
		return runner.Wrap(err, runner.KindIO, "lock the state folder")
	}
	if !locked {
		return runner.NewError(runner.KindIO, "another process has a NATS server in "+s.dir).
			WithHint("connect to that server: cluster.LocalURL returns its URL; or use another state folder")
	}
	return nil
}

const defaultListen = "127.0.0.1:0"

// options returns the options of the server.
func (s *localServer) options(c Config) (*server.Options, error) {
	host, text, err := net.SplitHostPort(cmp.Or(c.Listen, defaultListen))
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "start the NATS server")
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, runner.NewError(runner.KindIO, c.Listen+" is not a loopback address: a server in this process has no TLS").
			WithHint("for several machines, run nats-server with TLS, and set Config.URLs")
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "start the NATS server: the port of "+c.Listen)
	}
	opts := &server.Options{
		ServerName: "gophersnake-" + serviceName(hostname()), Host: host, Port: int(port),
		Authorization: s.token, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(s.dir, "store"),
		SyncAlways: c.SyncInterval == 0, SyncInterval: max(c.SyncInterval, 0),
	}
	if port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return opts, nil
}

// publish writes the URL for other processes of the user.
func (s *localServer) publish() error {
	u, err := url.Parse(s.server.ClientURL())
	if err != nil {
		return err
	}
	u.User = url.User(s.token)
	temporary := s.urlFile() + ".new"
	if err := os.WriteFile(temporary, []byte(u.String()+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.urlFile())
}

func (s *localServer) urlFile() string { return filepath.Join(s.dir, "nats.url") }

// stop ends the server and waits for its end. It may be called several times, and for a nil
// server.
func (s *localServer) stop() {
	if s == nil {
		return
	}
	s.once.Do(func() {
		if s.server != nil {
			s.server.Shutdown()
			s.server.WaitForShutdown()
			_ = os.Remove(s.urlFile())
		}
		_ = s.lock.Unlock()
	})
}

// LocalURL returns the URL of the server that another process of this user has started in a
// state folder. The URL contains a token. The error is of kind io if no server runs there.
func LocalURL(stateDir string) (string, error) {
	lock := flock.New(filepath.Join(stateDir, "lock"), flock.SetPermissions(0o600))
	text, err := os.ReadFile(filepath.Join(stateDir, "nats.url"))
	if err == nil {
		var free bool
		if free, err = lock.TryLock(); free {
			_ = lock.Unlock()
			err = fmt.Errorf("the process that had started it has ended")
		}
	}
	if err != nil {
		return "", runner.Wrap(err, runner.KindIO, "no NATS server runs in "+stateDir)
	}
	return strings.TrimSpace(string(text)), nil
}

// natsLogger writes the log of a server.
type natsLogger struct{ logger *slog.Logger }

func (l natsLogger) log(level slog.Level, format string, v []any) {
	l.logger.Log(context.Background(), level, "nats: "+fmt.Sprintf(format, v...))
}

// Noticef implements [server.Logger].
func (l natsLogger) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Warnf implements [server.Logger].
func (l natsLogger) Warnf(format string, v ...any) { l.log(slog.LevelWarn, format, v) }

// Fatalf implements [server.Logger]. It does not end the process.
func (l natsLogger) Fatalf(format string, v ...any) { l.log(slog.LevelError, format, v) }

// Errorf implements [server.Logger].
func (l natsLogger) Errorf(format string, v ...any) { l.log(slog.LevelError, format, v) }

// Debugf implements [server.Logger].
func (l natsLogger) Debugf(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// Tracef implements [server.Logger].
func (l natsLogger) Tracef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }

// hostname returns the name of this machine, or "unknown".
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// isLoopback reports whether an address, HOST:PORT, is of this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address == "pipe" // of a server in this process
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
