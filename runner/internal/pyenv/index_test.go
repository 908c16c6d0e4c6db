package pyenv

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unusedAddress returns an address without a listener.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// index serves wheels as a package index does.
func index(t *testing.T, wheels string) string {
	t.Helper()
	files := http.FileServer(http.Dir(wheels))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/simple/")
		if !ok {
			files.ServeHTTP(w, r)
			return
		}
		found, _ := filepath.Glob(filepath.Join(wheels, name+"-*.whl"))
		if len(found) == 0 {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		for _, file := range found {
			_, _ = w.Write([]byte("<a href=\"/" + filepath.Base(file) + "\">" + filepath.Base(file) + "</a>\n"))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/simple"
}

func TestPipsOwnIndexIsUsed(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, _ string) {
		here, there := t.TempDir(), t.TempDir()
		wheel(t, here, "msgpack", "1.1.0")
		wheel(t, here, "msgspec", "0.20.0")
		wheel(t, here, "alpha", "1.0")
		wheel(t, there, "alpha", "2.0")
		config := filepath.Join(t.TempDir(), "pip.conf")
		require.NoError(t, os.WriteFile(config, []byte("[global]\nindex-url = "+index(t, here)+
			"\n[install]\nextra_index_url =\n    "+index(t, there)+"\nuser = true\n"), 0o600))
		t.Setenv("PIP_NO_INDEX", "")
		t.Setenv("PIP_FIND_LINKS", "")
		t.Setenv("PIP_CONFIG_FILE", config)
		env, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: []string{"alpha"}, CacheDir: t.TempDir()})
		require.NoError(t, err)
		assert.Equal(t, "2.0", inEnvironment(t, env, "import alpha; print(alpha.version)"), "the best of both indexes")
	})
}

func TestUVsOwnIndexComesFirst(t *testing.T) {
	python, _ := isolated(t, "uv")
	here := t.TempDir()
	wheel(t, here, "msgpack", "1.2.0")
	wheel(t, here, "msgspec", "0.20.0")
	t.Setenv("UV_DEFAULT_INDEX", index(t, here))
	t.Setenv("PIP_FIND_LINKS", "")
	env, err := Ensure(t.Context(), Spec{Interpreter: python, CacheDir: t.TempDir()})
	require.NoError(t, err)
	assert.Equal(t, "1.2.0", inEnvironment(t, env, "import msgpack; print(msgpack.version)"))
}
