package pyenv

import (
	"fmt"
	"regexp"
	"strings"
)

// symptoms are what installers say, and what to do then. The first one that is
// found counts: pip says that there is no such version also where it reached no
// index.
var symptoms = []struct {
	said *regexp.Regexp
	hint string
}{
	{regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`),
		"make room, for instance with `gophersnake env prune`, or " + otherFolder},
	{regexp.MustCompile(`(?i)read-only file system|permission denied`),
		"make the cache folder writable, or " + otherFolder},
	{regexp.MustCompile(`(?i)ensurepip is not|no module named '?(ensurepip|venv)`),
		"install uv (`pip install uv`), or on Debian and Ubuntu the package python3-venv, or name another interpreter with --python"},
	{regexp.MustCompile(`(?i)\b(401|403)\b.*(unauthorized|forbidden|client error)|HTTP error (401|403)|(unauthorized|forbidden)`),
		"the package index refuses the credentials: put them into the index's URL, or into ~/.netrc"},
	{regexp.MustCompile(`(?i)certificate verify failed|invalid peer certificate|UnknownIssuer`),
		"the certificate of the package index is not trusted: name the file of the authority with PIP_CERT or SSL_CERT_FILE"},
	{regexp.MustCompile(`(?i)name or service not known|name resolution|dns error|failed to establish a new connection|connection (refused|reset|broken)|network is unreachable|timed out|error sending request|could not connect|failed to fetch|network was disabled`),
		"the package index cannot be reached: see to the network, or name another index with PIP_INDEX_URL or UV_DEFAULT_INDEX"},
	{regexp.MustCompile(`(?i)resolutionimpossible|conflicting dependencies|requires-python|no solution found|could not find a version|no matching distribution|ignored the following versions`),
		"correct the pipeline's requirements, or name an interpreter with --python for which there are packages"},
	{regexp.MustCompile(`(?i)invalid requirement|couldn't parse requirement|expected .* (but|or)|trailing data|unsupported requirement`),
		"correct the pipeline's requirements: they are lines as in a pip requirements file"},
	{regexp.MustCompile(`(?i)failed to build|failed building wheel|metadata-generation-failed|build backend|subprocess-exited-with-error|error: command .*(gcc|cc|clang)`),
		"a package had to be compiled, and that failed: take a version that has a wheel for this interpreter, or install what its build needs"},
}

// saysWhy is a line in which an installer names the reason.
var saysWhy = regexp.MustCompile(`(?i)^\s*(error|cause|caused by|×|╰─▶|├─▶)[:\s]`)

// installerError explains the failure of an installer by what it said.
func installerError(python Interpreter, op, tail string, cause error) *Error {
	e := &Error{Op: op, Output: tail, Cause: cause,
		Hint: "see what the installer says; `gophersnake doctor` checks what it needs"}
	for _, symptom := range symptoms {
		if symptom.said.MatchString(tail) {
			e.Hint = symptom.hint
			break
		}
	}
	e.Message = lastReason(tail)
	if e.Message == "" {
		e.Message = fmt.Sprintf("the installer failed for %v: %v", python, cause)
	}
	return e
}

// lastReason is the last line of output in which the installer says why.
func lastReason(tail string) string {
	found := ""
	for line := range strings.Lines(tail) {
		if at := saysWhy.FindStringIndex(line); at != nil {
			found = strings.TrimRight(strings.TrimSpace(line[at[1]:]), ".")
		}
	}
	return found
}
