package serve_test

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve"
)

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	s := start(t, echoes, serve.WithPage())
	pending, seen := []string{"/"}, map[string]bool{}
	link := regexp.MustCompile(`(?:src|href|from|import|URL)[= (]"([^"#]+\.(?:js|css|svg))"`)
	for len(pending) > 0 {
		at := pending[0]
		pending = pending[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		answer := s.do(t, http.MethodGet, at, nil)
		text := read(t, answer)
		require.Equal(t, http.StatusOK, answer.StatusCode, at)
		policy := answer.Header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'; script-src 'self'; style-src 'self';", at)
		assert.NotContains(t, policy, "unsafe", at)
		assert.NotContains(t, policy, "http", at)
		if path.Ext(at) != ".svg" { // which has the name of its namespace
			assert.NotRegexp(t, `(?i)(src|href)="https?:|@import|url\(["']?https?:`, text, at)
			assert.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(`, text, at)
			assert.NotRegexp(t, `<script[^>]*>[^<]|<style|\son\w+="|\sstyle="`, text, at)
		}
		again := s.do(t, http.MethodGet, at, nil, "If-None-Match", answer.Header.Get("ETag"))
		assert.Equal(t, http.StatusNotModified, again.StatusCode, at)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			pending = append(pending, path.Join(path.Dir(at), found[1]))
		}
	}
	for _, name := range []string{"/ui/style.css", "/ui/main.js", "/ui/try.js", "/ui/recorder.js", "/ui/worklet.js"} {
		assert.True(t, seen[name], name)
	}
	for _, name := range []string{"/ui/nothing.js", "/ui/..%2fpage.go", "/ui/"} {
		status, _ := s.get(t, name)
		assert.Equal(t, http.StatusNotFound, status, name)
	}
	status, _ := start(t, echoes).get(t, "/")
	assert.Equal(t, http.StatusNotFound, status, "a handler has no page unless it is asked for")
}

// login posts a token, and returns the status and the cookie of the session.
func (s *service) login(t *testing.T, secret string, headers ...string) (int, *http.Cookie) {
	t.Helper()
	answer := s.do(t, http.MethodPost, "/login", strings.NewReader(`{"token": "`+secret+`"}`), append(headers, "Content-Type", "application/json")...)
	if cookies := answer.Cookies(); len(cookies) > 0 {
		return answer.StatusCode, cookies[0]
	}
	return answer.StatusCode, nil
}

func TestASessionStandsForItsToken(t *testing.T) {
	t.Parallel()
	r := newRunner(t, echoes)
	require.NoError(t, r.Start(t.Context()))
	s := listen(t, r, serve.Config{Tokens: []serve.Token{{Secret: firstSecret}, {Secret: secondSecret, Admin: true}}}, serve.WithPage())
	for _, path := range []string{"/", "/ui/main.js"} {
		status, _ := s.get(t, path)
		assert.Equal(t, http.StatusOK, status, "the page has no secrets: %s", path)
	}
	status, _ := s.get(t, "/v1/status")
	assert.Equal(t, http.StatusUnauthorized, status)
	status, cookie := s.login(t, "wrong")
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Nil(t, cookie)

	status, cookie = s.login(t, firstSecret)
	require.Equal(t, http.StatusNoContent, status)
	assert.True(t, cookie.HttpOnly)
	assert.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	assert.False(t, cookie.Secure)
	assert.NotContains(t, cookie.Value, firstSecret)
	session := cookie.Name + "=" + cookie.Value
	status, text := s.post(t, "1", "Cookie", session)
	assert.Equal(t, http.StatusOK, status, text)
	doc := s.status(t, "Cookie", session)
	assert.True(t, doc.May.Session)
	assert.False(t, doc.May.Admin)
	assert.False(t, s.status(t, "Authorization", "Bearer "+firstSecret).May.Session)

	// A page of another origin of the same site sends the cookie, too.
	status, _ = s.post(t, "1", "Cookie", session, "Origin", "http://localhost:1", "Sec-Fetch-Site", "same-site")
	assert.Equal(t, http.StatusForbidden, status)
	status, _ = s.login(t, firstSecret, "Origin", "https://evil.example")
	assert.Equal(t, http.StatusForbidden, status)
	status, _ = s.post(t, "1", "Cookie", session, "Authorization", "Bearer wrong")
	assert.Equal(t, http.StatusUnauthorized, status, "a token that is wrong is not overlooked")
	status, _ = s.post(t, "1", "Cookie", cookie.Name+"=guessed")
	assert.Equal(t, http.StatusUnauthorized, status)

	_, admin := s.login(t, secondSecret)
	watching := s.do(t, http.MethodGet, "/v1/status", nil, "Accept", lines, "Cookie", admin.Name+"="+admin.Value)
	require.Equal(t, http.StatusOK, watching.StatusCode)
	require.NoError(t, s.server.SetTokens([]serve.Token{{Secret: firstSecret}}))
	status, _ = s.get(t, "/v1/status", "Cookie", admin.Name+"="+admin.Value)
	assert.Equal(t, http.StatusUnauthorized, status, "a session ends with its token")
	assert.Contains(t, read(t, watching), "urn:gophersnake:problem:unauthorized", "and so do its streams")
	answer := s.do(t, http.MethodPost, "/logout", nil, "Cookie", session)
	assert.Equal(t, http.StatusNoContent, answer.StatusCode)
	assert.Negative(t, answer.Cookies()[0].MaxAge)
	status, _ = s.post(t, "1", "Cookie", session)
	assert.Equal(t, http.StatusUnauthorized, status)
}

func TestGuessesOfTokensAreLimited(t *testing.T) {
	t.Parallel()
	s := start(t, echoes, serve.WithPage(), twoTokens)
	for range 10 {
		status, _ := s.login(t, "guess")
		require.Equal(t, http.StatusUnauthorized, status)
	}
	answer := s.do(t, http.MethodPost, "/login", strings.NewReader(`{"token": "`+firstSecret+`"}`))
	assert.Equal(t, http.StatusTooManyRequests, answer.StatusCode)
	assert.Equal(t, "6", answer.Header.Get("Retry-After"))
	assert.Empty(t, answer.Cookies())
	status, _ := s.post(t, "1", "Authorization", "Bearer "+firstSecret)
	assert.Equal(t, http.StatusOK, status)
	for body, want := range map[string]int{"{": http.StatusBadRequest, strings.Repeat("x", 5<<10): http.StatusRequestEntityTooLarge} {
		answer := start(t, echoes, serve.WithPage(), twoTokens).do(t, http.MethodPost, "/login", strings.NewReader(body))
		assert.Equal(t, want, answer.StatusCode)
	}
}

func TestTheCookieIsSecureBehindTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, client := certificate(t)
	s := listen(t, newRunner(t, echoes), serve.Config{CertFile: certFile, KeyFile: keyFile, Tokens: []serve.Token{{Secret: firstSecret}}}, serve.WithPage())
	answer := s.with(t.Context(), t, client, http.MethodPost, "/login", strings.NewReader(`{"token": "`+firstSecret+`"}`))
	require.Equal(t, http.StatusNoContent, answer.StatusCode)
	assert.True(t, answer.Cookies()[0].Secure)

	handler := serve.Handler(map[string]*runner.Runner{}, serve.WithPage(), serve.WithTokens(serve.Token{Secret: firstSecret}))
	status, cookie := serveLogin(t, handler, "https://models.example")
	assert.Equal(t, http.StatusNoContent, status)
	assert.True(t, cookie.Secure, "a proxy has TLS")
}

// serveLogin logs in at a handler behind a proxy with an origin.
func serveLogin(t *testing.T, handler http.Handler, origin string) (int, *http.Cookie) {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, origin+"/login", strings.NewReader(`{"token": "`+firstSecret+`"}`))
	req.TLS = nil
	req.Header.Set("Origin", origin)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, req)
	return answer.Code, answer.Result().Cookies()[0]
}
