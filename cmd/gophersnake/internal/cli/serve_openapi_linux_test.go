package cli

import (
	"encoding/base64"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// The two programs are those of scripts/requirements.txt.
func TestTheServiceIsWhatItsOpenAPIDocumentSays(t *testing.T) {
	folder, err := filepath.Abs("../fixtures/testdata/api")
	require.NoError(t, err)
	var pipelines []string
	for _, name := range []string{"graph", "letters", "order", "same", "sound"} {
		pipelines = append(pipelines, name+"="+filepath.Join(folder, name+".yaml"))
	}
	secret := fixtures.Write(t, "secret", "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
	p, url := serving(t, append(pipelines, "--jobs", "--state", filepath.Join(t.TempDir(), "state"), "--webhook-secret", secret)...)
	_, text := get(t, http.DefaultClient, url+"/openapi.json", "*/*")
	document := fixtures.Write(t, "openapi.json", text)
	out, err := exec.CommandContext(t.Context(), "python3", "-m", "openapi_spec_validator", document).CombinedOutput()
	require.NoError(t, err, "%s", out)

	tester := exec.CommandContext(t.Context(), "schemathesis", "--config-file", filepath.Join(folder, "schemathesis.toml"), "run", document, "--url", url,
		"--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--no-color")
	tester.Dir = t.TempDir() // for its caches
	tester.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS="+filepath.Join(folder, "hooks.py"))
	out, err = tester.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}
