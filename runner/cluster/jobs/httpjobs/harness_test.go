package httpjobs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs/httpjobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/serve"
)

func TestMain(m *testing.M) {
	os.Exit(testkit.WithPackage(func(packageDir string) int {
		os.Setenv("PYTHONPATH", packageDir)
		return m.Run()
	}))
}

// site is a NATS server and an HTTP service in this process. Its pipelines are some of echo, fail,
// and hold, whose node waits for a file in the folder.
type site struct {
	*jobs.Store
	t      *testing.T
	url    string
	folder string
	drain  func() // begins the end of the service
}

// newSite starts a service with the named pipelines. A further one, "go", has the node, unless that
// is nil.
func newSite(t *testing.T, pipelines string, config jobs.Config, node runner.NodeFunc, opts ...serve.Option) *site {
	t.Helper()
	conn, err := cluster.Connect(t.Context(), cluster.Config{StateDir: filepath.Join(t.TempDir(), "state"), SyncInterval: -1})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s := &site{t: t, folder: t.TempDir()}
	config.AckWait, config.OrderedMaps = time.Second, true
	s.Store, err = jobs.Open(t.Context(), conn, config)
	require.NoError(t, err)
	runners := make(map[string]*runner.Runner)
	for _, name := range strings.Fields(pipelines) {
		params := ""
		if name == "hold" {
			params = fmt.Sprintf(", params: {folder: %q}", s.folder)
		}
		runners[name] = newRunner(t, fmt.Sprintf("nodes: [{id: %s, node_type: %[1]s%s}]", name, params))
	}
	if node != nil {
		runners["go"] = newRunner(t, "nodes: [{id: go, node_type: go}]", runner.WithNode("go", node))
	}
	server, err := serve.Listen(runners, serve.Config{Address: "127.0.0.1:0", DrainTimeout: testkit.Long}, append(opts, serve.WithJobs(httpjobs.New(s.Store)))...)
	require.NoError(t, err)
	s.url = server.URL()
	ctx, cancel := context.WithCancel(context.Background())
	s.drain = cancel
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
	machine, err := jobs.Start(t.Context(), s.Store, runners, jobs.WithSlots("hold", 1), jobs.WithWebhooks(jobs.Webhooks{
		Secrets: []string{webhookSecret}, Allow: []string{"127.0.0.1"}, Document: httpjobs.Document(server), Pause: time.Millisecond,
	}))
	require.NoError(t, err)
	t.Cleanup(machine.Close)
	return s
}

// webhookSecret is the secret of the webhooks of the service.
const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// newRunner returns a runner for a manifest with the nodes of the tests of package cluster.
func newRunner(t *testing.T, text string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	base, err := filepath.Abs("../../testdata")
	require.NoError(t, err)
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\n"+text), base)
	require.NoError(t, err)
	for i := range p.Nodes {
		p.Nodes[i].Workers.Spare = 0
	}
	r, err := runner.New(p, append(opts, runner.WithSystemPython(), runner.WithOrderedMaps())...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	return r
}

// answer is an answer with a body in JSON.
type answer struct {
	status int
	header http.Header
	text   string

	ID, Job, URL, State, Priority, Type, Detail, Next string
	RequestID                                         string `json:"request_id"`
	Error                                             struct{ Type, Kind, Node string }
	Jobs                                              []struct{ Job, State string }
	Webhook                                           *serve.JobWebhook
}

// do sends a request with headers, which are alternating names and values.
func (s *site) do(method, path, body string, headers ...string) (a answer) {
	s.t.Helper()
	response := s.open(method, path, body, headers...)
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	a.status, a.header, a.text = response.StatusCode, response.Header, string(content)
	_ = json.Unmarshal(bytes.TrimSpace(content), &a) // a result may be anything
	return a
}

func (s *site) open(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func (s *site) get(path string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, "", headers...)
}

// submit posts a job, and returns the answer.
func (s *site) submit(pipeline, body string, headers ...string) answer {
	s.t.Helper()
	a := s.do(http.MethodPost, "/v1/pipelines/"+pipeline, body, append(headers, "Prefer", "respond-async")...)
	require.Equal(s.t, http.StatusAccepted, a.status, a.text)
	assert.Equal(s.t, a.URL, a.header.Get("Location"))
	assert.Equal(s.t, "respond-async", a.header.Get("Preference-Applied"))
	return a
}

// await waits until a job is in a state, and returns it.
func (s *site) await(url, state string, headers ...string) (a answer) {
	s.t.Helper()
	testkit.Eventually(s.t, func() bool { a = s.get(url, headers...); return a.State == state }, state)
	return a
}

// await2xx waits until an answer is no longer that of a job without a result, and returns its status.
func (s *site) await2xx(path string, headers ...string) (status int) {
	s.t.Helper()
	testkit.Eventually(s.t, func() bool { status = s.get(path, headers...).status; return status == http.StatusOK }, path)
	return status
}

// jobs returns the jobs that a client can see.
func (s *site) jobs(headers ...string) (all []string) {
	s.t.Helper()
	for _, j := range s.get("/v1/jobs", headers...).Jobs {
		all = append(all, j.Job)
	}
	return all
}

// release lets all calls of the pipeline hold return.
func (s *site) release() {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(filepath.Join(s.folder, "release"), nil, 0o600))
}

// lines returns the lines of a stream as they come. The channel is closed at its end.
func (s *site) lines(path string, headers ...string) <-chan string {
	s.t.Helper()
	response := s.open(http.MethodGet, path, "", headers...)
	require.Equal(s.t, http.StatusOK, response.StatusCode)
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}

// expect reads lines until one contains all of some texts, and returns it.
func expect(t *testing.T, lines <-chan string, texts ...string) string {
	t.Helper()
	deadline := time.After(testkit.Long)
	for {
		select {
		case line, ok := <-lines:
			require.True(t, ok, "the stream has ended before %q", texts)
			found := 0
			for _, text := range texts {
				if strings.Contains(line, text) {
					found++
				}
			}
			if found == len(texts) {
				return line
			}
		case <-deadline:
			require.FailNow(t, "nothing comes", "%q", texts)
		}
	}
}
