package serving

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

//go:embed python
var embedded embed.FS

// service is a process of gophersnake serve.
type service struct {
	command *exec.Cmd
	url     string
	temp    string // the temporary folder of the process and its workers
	client  *http.Client
	ended   chan struct{} // closed when the process has ended
	err     error         // valid then

	mu      sync.Mutex   // guards what follows
	log     bytes.Buffer // the last part of it
	reloads int          // of nodes
}

// startService builds gophersnake and starts it with the pipelines, in a folder.
func startService(ctx context.Context, folder string) (*service, error) {
	sources, err := fs.Sub(embedded, "python")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(folder, "pipelines"), sources); err != nil {
		return nil, err
	}
	s := &service{temp: filepath.Join(folder, "tmp"), ended: make(chan struct{}), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if err := os.Mkdir(s.temp, 0o700); err != nil {
		return nil, err
	}
	binary := filepath.Join(folder, "gophersnake")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/gophersnake/gophersnake/cmd/gophersnake")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building gophersnake: %w\n%s", err, text)
	}
	arguments := []string{"serve", "--listen", "127.0.0.1:0", "--drain-timeout", "20s"}
	for _, name := range []string{workName, streamName, linesName} {
		arguments = append(arguments, name+"="+filepath.Join(folder, "pipelines", name+".yaml"))
	}
	s.command = exec.Command(binary, arguments...)
	s.command.Env = append(os.Environ(), "TMPDIR="+s.temp)
	s.command.Stderr = s
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		s.err = s.command.Wait()
		close(s.ended)
	}()
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready: ")
	if err != nil || !ok {
		s.kill()
		return nil, fmt.Errorf("gophersnake serve said %q (%w)\n%s", line, err, s.lastLog())
	}
	s.url = url
	return s, nil
}

func (s *service) pid() int { return s.command.Process.Pid }

// logSize is how much of the log is kept.
const logSize = 64 << 10

// Write keeps the last part of the log.
func (s *service) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reloads += bytes.Count(text, []byte(": reloaded, "))
	if s.log.Len() > logSize {
		s.log.Reset()
	}
	return s.log.Write(text)
}

func (s *service) lastLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.log.String()
	return text[max(0, len(text)-4000):]
}

func (s *service) kill() {
	_ = s.command.Process.Kill()
	<-s.ended
}

// stop ends the service as an operator does, and waits for it.
func (s *service) stop() error {
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return s.err
	case <-time.After(stuck):
		s.kill()
		return errors.New("it does not end after SIGTERM")
	}
}

// get returns the body of an answer.
func (s *service) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, answer.StatusCode, body)
	}
	return body, err
}

// awaitWhole waits until all workers of all pipelines are ready and none is busy.
func (s *service) awaitWhole(ctx context.Context, limit time.Duration) error {
	for until := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := s.checkWhole(ctx)
		if err == nil || time.Now().After(until) || ctx.Err() != nil {
			return err
		}
	}
}

// renew replaces all workers, so that all have been started in the same way, and waits until
// the service is whole.
func (s *service) renew(ctx context.Context) error {
	reloads := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.reloads
	}
	want := reloads() + len(wholeWorkers)
	if err := s.command.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	for until := time.Now().Add(stuck); reloads() < want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) || ctx.Err() != nil {
			return fmt.Errorf("SIGHUP does not reload the code: %s", s.lastLog())
		}
	}
	return s.awaitWhole(ctx, stuck)
}

// workers are the figures of a node in /healthz.
type workers struct{ Idle, Busy, Spares, Starting int }

// wholeWorkers are the workers of each pipeline when nothing happens.
var wholeWorkers = map[string]workers{workName: {Idle: 3, Spares: 1}, streamName: {Idle: 3, Spares: 1}, linesName: {Idle: 2, Spares: 1}}

func (s *service) checkWhole(ctx context.Context) error {
	body, err := s.get(ctx, "/healthz")
	if err != nil {
		return err
	}
	var health struct {
		Pipelines map[string]struct {
			Nodes []struct{ Workers workers }
		}
	}
	if err := json.Unmarshal(body, &health); err != nil {
		return err
	}
	for name, want := range wholeWorkers {
		nodes := health.Pipelines[name].Nodes
		if len(nodes) != 1 || nodes[0].Workers != want {
			return fmt.Errorf("the pipeline %s has the workers %+v, not %+v", name, nodes, want)
		}
	}
	return nil
}

// resources are what the service holds at one moment.
type resources struct {
	Descriptors int      `json:"descriptors"`
	Processes   int      `json:"processes"`
	Segments    int      `json:"segments"`
	Named       []string `json:"named_segments"`
	Goroutines  int      `json:"goroutines"`
	Held        int      `json:"bytes_of_bodies"`
	Active      int      `json:"active_requests"`
	Waiting     int      `json:"waiting_requests"`
	Running     int      `json:"running_requests"`
	Keys        int      `json:"idempotency_keys"`
	Resident    int64    `json:"rss"`
}

func (r resources) String() string {
	return fmt.Sprintf("%d descriptors, %d processes, %d segments, %d goroutines, %d bytes of bodies, %d active, %d waiting and %d running requests, %d keys, %d MiB",
		r.Descriptors, r.Processes, r.Segments, r.Goroutines, r.Held, r.Active, r.Waiting, r.Running, r.Keys, r.Resident>>20)
}

// mostKeys is how many idempotency keys the service keeps.
const mostKeys = 10_000

// since describes what is held beyond what was held before. A few goroutines and descriptors more
// are those of the request that asks, and of workers that were started at another moment.
func (r resources) since(before resources) (leaks []string) {
	for _, c := range []struct {
		name               string
		now, before, slack int
	}{
		{"descriptors", r.Descriptors, before.Descriptors, 0},
		{"processes", r.Processes, before.Processes, 0},
		{"segments", r.Segments, before.Segments, 0},
		{"entries of /dev/shm", len(r.Named), len(before.Named), 0},
		{"goroutines", r.Goroutines, before.Goroutines, 0},
		{"bytes of bodies", r.Held, 0, 0},
		{"active requests", r.Active, 0, 0},
		{"waiting requests", r.Waiting, 0, 0},
		{"running requests", r.Running, 0, 0},
		{"idempotency keys", r.Keys, mostKeys, 0},
	} {
		if c.now > c.before+c.slack {
			leaks = append(leaks, fmt.Sprintf("%d %s, %d before", c.now, c.name, c.before))
		}
	}
	return leaks
}

// awaitResources returns what the service holds when that is no more than before, or after a
// while. Without resources to compare with, it waits until they do not change.
func (s *service) awaitResources(ctx context.Context, before resources) (resources, error) {
	isFirst := before.Descriptors == 0
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		now, err := s.resources(ctx)
		if err != nil || time.Now().After(until) || now.since(before) == nil {
			return now, err
		}
		if isFirst {
			before = now
		}
	}
}

func (s *service) resources(ctx context.Context) (resources, error) {
	text, err := s.get(ctx, "/metrics")
	if err != nil {
		return resources{}, err
	}
	residue, err := procs.Of(s.pid())
	r := resources{
		Descriptors: residue.Descriptors, Segments: residue.Segments, Named: residue.Named,
		Processes: len(procs.Descendants(s.pid())), Resident: procs.Resident(s.pid()),
	}
	figures := map[string]*int{
		"goroutines": &r.Goroutines, "held_bytes": &r.Held, "active_requests": &r.Active, "waiting_requests": &r.Waiting,
		"running_requests": &r.Running, "idempotency_keys": &r.Keys,
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "{")
		if figure := figures[strings.TrimPrefix(name, "gophersnake_serve_")]; figure != nil && strings.HasPrefix(name, "gophersnake_serve_") {
			n, _ := strconv.ParseFloat(value, 64)
			*figure += int(n)
		}
	}
	return r, err
}
