package serve

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve/internal/page"
	"github.com/gophersnake/gophersnake/runner/serve/internal/session"
)

// routePage adds the page and its files, if the handler has one.
func (h *handler) routePage() {
	if !h.page {
		return
	}
	h.guesses = newAddressTable(limits{perSecond: 1 / guessInterval.Seconds(), burst: guessesAtOnce})
	h.route("/{$}", methods{http.MethodGet: (*exchange).file})
	h.route(filesPath+"{file}", methods{http.MethodGet: (*exchange).file})
	h.route("/login", methods{http.MethodPost: (*exchange).login})
	h.route("/logout", methods{http.MethodPost: (*exchange).logout})
}

// filesPath is the folder of the page's files.
const filesPath = "/ui/"

// isPagePath reports whether a path is one of the page itself, which has no data of pipelines
// and needs no token.
func (h *handler) isPagePath(path string) bool {
	return h.page && (path == "/" || path == "/login" || path == "/logout" || strings.HasPrefix(path, filesPath))
}

// file answers with a file of the page.
func (x *exchange) file() error {
	x.extendWrite()
	if !page.Serve(x.w, x.req, x.req.PathValue("file")) {
		return fault(notFound, "there is nothing at "+x.req.URL.Path).withHint("the page is at /")
	}
	return nil
}

// A client can try a number of tokens at once, and then one in each interval.
const (
	guessesAtOnce = 10
	guessInterval = 6 * time.Second
	longestLogin  = 4 << 10
)

// login begins a session for the token in the body, and sends its id as a cookie, which scripts
// cannot read and other sites cannot use.
func (x *exchange) login() error {
	if !x.h.guesses.client(x.req.RemoteAddr).limiter.Allow() {
		e := fault(rateLimited, fmt.Sprintf("there were %d attempts to log in", guessesAtOnce))
		e.wait = guessInterval
		return e
	}
	if x.req.ContentLength > longestLogin {
		return bodyTooLarge(longestLogin)
	}
	body, err := x.readBody()
	if err != nil {
		return err
	}
	var form struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(body, &form); err != nil {
		return fault(malformed, `the body must be {"token": "…"}`)
	}
	secret := strings.TrimSpace(form.Token)
	if x.h.needsToken() {
		if x.h.clientOf(secret) == nil {
			return fault(unauthorized, "the token is not valid")
		}
		x.setCookie(x.h.sessions.Open(sha256.Sum256([]byte(secret)), time.Now()), int(session.Age.Seconds()))
	}
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

// logout ends the session of the request.
func (x *exchange) logout() error {
	if cookie, err := x.req.Cookie(cookieName(x.req)); err == nil {
		x.h.sessions.Close(cookie.Value)
	}
	x.setCookie("", -1)
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

// setCookie sets the cookie of the session. A browser that came through a proxy with TLS says so
// in its Origin.
func (x *exchange) setCookie(value string, maxAge int) {
	http.SetCookie(x.w, &http.Cookie{
		Name: cookieName(x.req), Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: x.req.TLS != nil || strings.HasPrefix(x.req.Header.Get("Origin"), "https://"),
	})
}

// cookieName returns the name of the cookie. Browsers send the cookies of all ports of a host, so
// the name has the port.
func cookieName(req *http.Request) string {
	_, port, _ := net.SplitHostPort(req.Host)
	if strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' }) {
		port = ""
	}
	return "gophersnake-session-" + port
}

// sessionClient returns the client whose session a request belongs to, or nil. If its token is no
// longer valid, the session is not, either.
func (h *handler) sessionClient(req *http.Request) *client {
	cookie, err := req.Cookie(cookieName(req))
	if err != nil {
		return nil
	}
	owner, ok := h.sessions.Owner(cookie.Value, time.Now())
	if !ok {
		return nil
	}
	return h.tokens.Load().find(owner)
}

// requireAdmin fails unless the client may change the service.
func (x *exchange) requireAdmin() error {
	if x.rights().Admin {
		return nil
	}
	if x.h.needsToken() {
		return fault(forbidden, "the token does not allow this").withHint("it takes a token with the attribute admin")
	}
	return fault(forbidden, "the service does not allow this").withHint("the operator allows it on the loopback interface: gophersnake serve --admin")
}

// reloaded is the answer of reload and restart.
type reloaded struct {
	Pipeline string   `json:"pipeline"`
	Nodes    []string `json:"nodes"`
}

// reload makes the Python nodes of a pipeline read their code again.
func (x *exchange) reload() error {
	return x.renew(func(h runner.Health) ([]string, error) {
		var ids []string
		for _, n := range h.Nodes {
			if n.Pool != nil {
				ids = append(ids, n.Node)
			}
		}
		return ids, nil
	}, nil)
}

// restart gives a node new workers, and closes its circuit breaker.
func (x *exchange) restart() error {
	return x.renew(func(h runner.Health) ([]string, error) {
		i := slices.IndexFunc(h.Nodes, func(n runner.NodeHealth) bool { return n.Node == x.node })
		if i < 0 || h.Nodes[i].Pool == nil {
			return nil, fault(noWorkers, fmt.Sprintf("the node %q has none", x.node))
		}
		return []string{x.node}, nil
	}, func() {
		x.pipeline.runner.Scheduler().Breaker(x.node).RecordSuccess()
	})
}

// renew reloads the nodes that choose returns, and then calls done.
func (x *exchange) renew(choose func(runner.Health) ([]string, error), done func()) error {
	if err := x.requireAdmin(); err != nil {
		return err
	}
	return x.process(func(context.CancelCauseFunc) error {
		ids, err := choose(x.pipeline.runner.Health())
		if err != nil {
			return err
		}
		if len(ids) > 0 { // Reload takes no names as all of them
			if err := x.pipeline.runner.Reload(x.ctx, ids...); err != nil {
				return err
			}
		}
		if done != nil {
			done()
		}
		return x.sendJSON(http.StatusOK, reloaded{x.pipeline.name, ids})
	})
}
