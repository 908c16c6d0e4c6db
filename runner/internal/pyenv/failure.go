package pyenv

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
)

// failure finds out from an installer's output why it failed. It reads each line when the
// installer prints it, since a long output would push out the lines that matter. It ignores
// what the build of a package prints: that may say anything.
type failure struct {
	building bool   // the lines are those of a package's build
	nested   bool   // the build's output is that of an installer
	url      string // the last one
	// The positions of the first matching symptoms in their lists, and their lines.
	found, index         int
	foundLine, indexLine string
	indexURL             string
}

func newFailure() *failure { return &failure{found: len(symptoms), index: len(indexSymptoms)} }

var (
	buildBegins = regexp.MustCompile(`^\s*(╰─> \[\d+ lines? of output\]|\[(stdout|stderr)\])$`)
	buildEnds   = regexp.MustCompile(`^\s*\[end of output\]$|^(hint|error|help|note)\b`)
	nestedBegin = "pip subprocess to install build dependencies"
	urlPattern  = regexp.MustCompile(`\bhttps?://[^\s'"` + "`" + `),;]+`)
)

// observe reads one line.
func (f *failure) observe(line string) {
	switch {
	case buildBegins.MatchString(line):
		f.building = !f.nested
		return
	case buildEnds.MatchString(line):
		f.building = false
	case strings.Contains(line, nestedBegin):
		f.nested = true
	}
	if f.building {
		return
	}
	for i, symptom := range symptoms[:f.found] {
		if symptom.pattern.MatchString(line) {
			f.found, f.foundLine = i, line
			break
		}
	}
	f.observeIndex(line)
}

// observeIndex looks in a line for what an index did.
func (f *failure) observeIndex(line string) {
	if url := urlPattern.FindString(line); url != "" {
		f.url = url
	}
	for i, symptom := range indexSymptoms[:f.index] {
		if symptom.pattern.MatchString(line) {
			f.index, f.indexLine, f.indexURL = i, line, f.url
			break
		}
	}
}

// observeLog reads the lines of pip's log that say why an index did not answer.
func (f *failure) observeLog(path string) {
	log, err := os.Open(path)
	if err != nil {
		return // pip was not used
	}
	defer log.Close()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if _, fault, ok := strings.Cut(lines.Text(), "Could not fetch URL "); ok {
			f.observeIndex(plainLine(fault))
		}
	}
}

// cause is what a symptom is a symptom of.
type cause int

const (
	causeRequirements cause = iota // the requirements cannot be met
	causeBuild                     // a package cannot be built
	causeSpace                     // a file system is full
	causeAccess                    // a folder cannot be written
	causeTools                     // this machine lacks a tool
	causeFile                      // the file of a package is damaged
)

// symptom is a pattern in the output of installers.
type symptom struct {
	pattern *regexp.Regexp
	cause   cause
	// final says that the symptom counts even if an index could not be reached: pip says
	// that a version is missing for that reason, too.
	final bool
	hint  string
}

// symptoms are in the order of their precedence.
var symptoms = []symptom{
	{regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`), causeSpace, true, ""},
	{regexp.MustCompile(`(?i)read-only file system|permission denied`), causeAccess, true, ""},
	{regexp.MustCompile(`(?i)ensurepip is not|no module named '?(ensurepip|venv)`), causeTools, true,
		"install uv (`pip install uv`), or on Debian and Ubuntu the package python3-venv, or choose another interpreter with --python"},
	{regexp.MustCompile(`(?i)do not match the hashes|hash mismatch`), causeRequirements, true,
		"the file is not the one that the requirement's hash was made from: correct the hash, or find out who changed the file"},
	{regexp.MustCompile(`(?i)resolutionimpossible|conflicting dependencies|requires a different python`), causeRequirements, true,
		"correct the pipeline's requirements, or choose an interpreter with --python that the packages support"},
	{regexp.MustCompile(`(?i)invalid requirement|couldn't parse requirement|trailing data|unsupported requirement|is not a valid wheel filename|wheel filename .* is invalid|distribution not found at|neither 'setup.py' nor|does not exist|does not appear to be a python`), causeRequirements, true,
		"correct the pipeline's requirements: they are lines as in a pip requirements file"},
	{regexp.MustCompile(`(?i)build backend returned|call to .?build_backend|call to .*backend\..*failed|failed building wheel|metadata-generation-failed|getting requirements to build wheel did not|error: command .*(gcc|cc|clang)`), causeBuild, true,
		"a package had to be compiled, and its build failed: use a version that has a wheel for this interpreter, or install the build's prerequisites"},
	{regexp.MustCompile(`(?i)invalid package format|wheel .* is invalid|badzipfile|failed to (read|extract).*zip`), causeFile, true,
		"a package's file is damaged, or was cut off on its way: try again, or choose another version or index"},
	{regexp.MustCompile(`(?i)(client error \(|HTTP error |^.*: )(404|410)\b.*(not found|gone|while getting)`), causeRequirements, false,
		"the file that a requirement names does not exist: correct the pipeline's requirements"},
	{regexp.MustCompile(`(?i)no solution found|could not find a version|no matching distribution|ignored the following versions`), causeRequirements, false,
		"correct the pipeline's requirements, or choose an interpreter with --python that the packages support"},
	{regexp.MustCompile(`(?i)failed to build|subprocess-exited-with-error`), causeBuild, false,
		"a package had to be compiled, and its build failed: use a version that has a wheel for this interpreter, or install the build's prerequisites"},
}

// offlineHint says how to do without an index.
const offlineHint = "without a network, install from a folder of wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"

const (
	networkHint = "check the network, and the index in PIP_INDEX_URL or UV_DEFAULT_INDEX; " + offlineHint
	proxyHint   = "check the proxy in HTTPS_PROXY, HTTP_PROXY or PIP_PROXY, or list the index's host in NO_PROXY; " + offlineHint
	tlsHint     = "set PIP_CERT or SSL_CERT_FILE to the file of its certificate authority; " + offlineHint
	accessHint  = "check the index in PIP_INDEX_URL or UV_DEFAULT_INDEX, and put the credentials into its URL or into ~/.netrc"
	statusHint  = "try again later, or choose another index with PIP_INDEX_URL or UV_DEFAULT_INDEX; " + offlineHint
)

// indexSymptoms are the symptoms of an index that does not answer as one, the most precise
// first. The message says what happened.
var indexSymptoms = []struct {
	pattern       *regexp.Regexp
	message, hint string
}{
	{regexp.MustCompile(`(?i)network was disabled|\boffline\b.*(cache|disabled)`), "the network is disabled",
		"unset UV_OFFLINE; " + offlineHint},
	{regexp.MustCompile(`(?i)\b407\b.*proxy auth|proxyerror|cannot connect to proxy|tunnel error|tunnel connection failed`), "the proxy cannot be used", proxyHint},
	{regexp.MustCompile(`(?i)certificate.verify.failed|invalid peer certificate|unknownissuer|certificate (has|is) |hostname mismatch`), "its certificate is not trusted", tlsHint},
	{regexp.MustCompile(`(?i)wrong.version.number|corrupt message of type|ssl: |sslerror|tls handshake`), "it does not speak TLS as expected",
		"check whether its URL should begin with http: or https:; " + offlineHint},
	{regexp.MustCompile(`(?i)\b401\b.*(unauthorized|client error)|HTTP error 401|lack of valid authentication`), "it refuses the credentials", accessHint},
	{regexp.MustCompile(`(?i)\b403\b.*(forbidden|client error)|HTTP error 403`), "it refuses access", accessHint},
	{regexp.MustCompile(`(?i)\b429\b.*(too many|client error)|HTTP error 429|too many 429`), "it answers with status 429: too many requests", statusHint},
	{regexp.MustCompile(`(?i)server error[ (]+5\d\d|\b5\d\d server error|HTTP error 5\d\d|too many 5\d\d error`), "it answers with a server error", statusHint},
	{regexp.MustCompile(`(?i)name or service not known|name resolution|nameresolutionerror|failed to resolve '|dns error|could not resolve host|nodename nor servname`), "its host name cannot be resolved", networkHint},
	{regexp.MustCompile(`(?i)connection refused|failed to connect to|couldn't connect`), "the connection is refused", networkHint},
	{regexp.MustCompile(`(?i)network is unreachable|no route to host`), "there is no route to it", networkHint},
	{regexp.MustCompile(`(?i)timed out|timeouterror`), "it does not answer in time", networkHint},
	{regexp.MustCompile(`(?i)badstatusline|invalid http version|error decoding|invalid content-type`), "it does not answer as an index", networkHint},
	{regexp.MustCompile(`(?i)connection reset|connection aborted|closed before message|remote end closed|remotedisconnected|unexpected eof|end of file before|incomplete-download|connection interrupted|broken pipe|protocolerror`), "the connection breaks", networkHint},
	{regexp.MustCompile(`(?i)is not a trusted or secure host`), "pip does not trust it, because it has no TLS",
		"use its https URL, or list its host in PIP_TRUSTED_HOST"},
	{regexp.MustCompile(`(?i)error sending request|failed to establish a new connection|connection broken|could not connect`), "it cannot be reached", networkHint},
	{regexp.MustCompile(`(?i)client error \(4(0[0235-9]|1[1-9]|2\d)|\b4(0[0235-9]|1[1-9]|2\d) client error`), "it refuses the request", statusHint},
}

// reasonLine matches a line in which an installer says why it failed.
var reasonLine = regexp.MustCompile(`(?i)^\s*(error|cause|caused by|×|╰─▶|├─▶)[:\s]`)

// installerError explains the failure of an installer by its output. The tail is the end of
// the output.
func (b *build) installerError(f *failure, op, tail string, failed error) *Error {
	e := &Error{Op: op, Output: tail, Cause: failed}
	found := symptom{hint: "see the output of the installer; `gophersnake doctor` checks its prerequisites"}
	known := f.found < len(symptoms)
	if known {
		found = symptoms[f.found]
	}
	if f.index < len(indexSymptoms) && !found.final {
		symptom := indexSymptoms[f.index]
		e.Message, e.Hint = "the package index"+f.place()+" cannot be used: "+symptom.message, symptom.hint
		return e
	}
	e.Hint, e.Message = found.hint, lastReason(tail)
	exit, _ := errors.AsType[*lifeline.ExitError](failed)
	switch {
	case known && (found.cause == causeSpace || found.cause == causeAccess):
		b.explainFolder(e, f.foundLine, found.cause)
	case known:
		e.Requirements = found.cause == causeRequirements || found.cause == causeBuild
		if setting := searchedOnly(); setting != "" && missingPackage.MatchString(tail) {
			e.Hint += "; only local folders were searched, because " + setting + " is set"
		}
	case exit != nil && exit.Status.Signaled():
		e.Message = "the installer was killed: " + exit.Status.Signal().String()
		e.Hint = "run it again; if nobody killed it, the machine or the memory cgroup may have run out of memory"
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the installer failed for %v: %v", b.spec.Interpreter, failed)
	}
	return e
}

// missingPackage matches the output if no package or version was found. pip's begins the
// same if an index did not answer.
var missingPackage = regexp.MustCompile(`\(from versions: |was not found|no versions? of`)

// place returns the URL that did not work, after a blank; empty if it is not known.
func (f *failure) place() string {
	if f.indexURL == "" {
		return ""
	}
	return " " + strings.TrimRight(f.indexURL, ".:")
}

// searchedOnly returns the variable that keeps the installers from using an index.
func searchedOnly() string {
	for _, name := range []string{"PIP_NO_INDEX", "UV_NO_INDEX"} {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

// explainFolder says which folder cannot be written, and what to do about it.
func (b *build) explainFolder(e *Error, line string, why cause) {
	folder, command, variable := b.spec.CacheDir, "", ""
	for _, other := range []struct{ variable, command, folder string }{
		{"UV_CACHE_DIR", "uv cache clean", b.uvCache},
		{"PIP_CACHE_DIR", "pip cache purge", os.Getenv("PIP_CACHE_DIR")},
	} {
		if mentions(line, other.folder) && !mentions(line, folder) {
			folder, command, variable = other.folder, other.command, other.variable
			break
		}
	}
	text, system := "the folder cannot be written", error(syscall.EACCES)
	switch {
	case why == causeSpace && lacksInodes(folder):
		text, system = "the file system has no inode left for another file", syscall.ENOSPC
	case why == causeSpace:
		text, system = "the file system is full", syscall.ENOSPC
	}
	if reason := e.Message; reason != "" {
		text += " (" + reason + ")"
	}
	e.Message = folder + ": " + text
	switch {
	case variable == "":
		e.Hint = FileError("", &fs.PathError{Path: folder, Err: system}).Hint
	case why == causeSpace:
		e.Hint = "free space there with `" + command + "`, or choose another folder with " + variable
	default:
		e.Hint = "make it writable, or choose another folder with " + variable
	}
}

// lacksInodes reports whether the file system of a path, which need not exist, has space but
// no inode left.
func lacksInodes(path string) bool {
	var system unix.Statfs_t
	for unix.Statfs(path, &system) != nil {
		if path == filepath.Dir(path) {
			return false
		}
		path = filepath.Dir(path)
	}
	return system.Files > 0 && system.Ffree == 0
}

// mentions reports whether a line contains the path of a folder or of a file in it.
func mentions(line, folder string) bool {
	return folder != "" && strings.Contains(line, folder+string(filepath.Separator))
}

// lastReason returns the last reason that the output gives; empty if it gives none.
func lastReason(tail string) string {
	found := ""
	for line := range strings.Lines(tail) {
		if at := reasonLine.FindStringIndex(line); at != nil {
			found = strings.TrimRight(strings.TrimSpace(line[at[1]:]), ".")
		}
	}
	return found
}
