package serve_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The tests with jobs are those of package httpjobs.
func TestWithoutJobsThePreferenceForOneIsIgnored(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader("1"), "Prefer", "respond-async")
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Equal(t, "1\n", read(t, answer))
	assert.Empty(t, answer.Header.Get("Preference-Applied"))
	status, _ := s.get(t, "/v1/jobs")
	assert.Equal(t, http.StatusNotFound, status)
	for path, methods := range s.openAPI(t).Paths {
		assert.False(t, strings.HasPrefix(path, "/v1/jobs"), path)
		assert.NotContains(t, methods["post"].Responses, "202", path)
	}
}
