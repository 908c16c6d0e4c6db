package runner

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func TestTheGuideListsTheVariablesThatArePassedByDefault(t *testing.T) {
	docs, err := os.ReadFile("docs/isolation.md")
	require.NoError(t, err)
	_, list, found := strings.Cut(string(docs), "Passed by default are:")
	require.True(t, found)
	var listed []string
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(list, -1) {
		listed = append(listed, match[1])
	}
	assert.ElementsMatch(t, passedByDefault, listed)
}

func TestNoPatternOfTheDefaultsMatchesSecrets(t *testing.T) {
	for _, name := range []string{
		"HF_TOKEN", "AWS_ACCESS_KEY_ID", "OPENAI_API_KEY", "GITHUB_TOKEN", "TF_VAR_password", "HTTPS_PROXY", "PIP_INDEX_URL",
		"DATABASE_URL", "SSH_AUTH_SOCK", "KUBECONFIG", "GOOGLE_APPLICATION_CREDENTIALS", "GOPHERSNAKE_CACHE",
	} {
		assert.False(t, matches(name, passedByDefault), name)
	}
	assert.True(t, slices.ContainsFunc(workerEnv(new(manifest.Node), nil), func(entry string) bool { return strings.HasPrefix(entry, "PATH=") }))
}

func TestOnlyOSEnvironGetsTheHintOfAMissingVariable(t *testing.T) {
	t.Setenv("GOPHERSNAKE_TEST_TOKEN", "secret")
	missed := func(class, message, file, function string) string {
		frames := []ipc.TracebackFrame{{File: file, Function: function}}
		return missingVariableHint(&ipc.RemoteError{Exception: ipc.Exception{Class: class, Message: message, Frames: frames}})
	}
	const name, getitem = "'GOPHERSNAKE_TEST_TOKEN'", "__getitem__"
	for _, file := range []string{"<frozen os>", "/usr/lib/python3.10/os.py"} {
		assert.Contains(t, missed("KeyError", name, file, getitem), "pass_env")
	}
	assert.Empty(t, missed("KeyError", name, "/node.py", getitem))
	assert.Empty(t, missed("KeyError", name, "<frozen os>", "get"))
	assert.Empty(t, missed("ValueError", name, "<frozen os>", getitem))
	assert.Empty(t, missed("KeyError", "'GOPHERSNAKE_TEST_NONE'", "<frozen os>", getitem))
	assert.Empty(t, missed("KeyError", "'PATH'", "<frozen os>", getitem), "the node took it out itself")
	assert.Empty(t, missingVariableHint(&ipc.RemoteError{Exception: ipc.Exception{Class: "KeyError"}}))
}
