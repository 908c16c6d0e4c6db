package pyenv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// pip is the installer that uses venv and pip.
type pip struct {
	// external says that only the interpreter itself has pip, and that this pip
	// installs into the environment.
	external bool
}

// choosePip returns the installer if the interpreter has the modules that it needs.
func choosePip(ctx context.Context, b *build) (installer, error) {
	python := b.spec.Interpreter
	has, err := ToolingOf(ctx, Interpreter{Path: python.builder(), Version: python.Version})
	if err != nil {
		return nil, err
	}
	e := &Error{Op: "create the environment", Hint: fmt.Sprintf(
		"install uv (`pip install uv`), or on Debian and Ubuntu the package python%d.%d-venv, or choose another interpreter with --python",
		python.Version.Major, python.Version.Minor)}
	switch {
	case !has.Venv:
		e.Message = python.String() + " has no venv module, and there is no uv on PATH"
	case has.Ensurepip:
		return pip{}, nil
	case has.pipCanTarget:
		return pip{external: true}, nil
	default:
		e.Message = python.String() + " has no ensurepip module and no pip 22.3 or newer, and there is no uv on PATH"
	}
	return nil, e
}

func (p pip) name() string { return "pip" }

func (p pip) create(ctx context.Context, b *build) error {
	args := []string{b.spec.Interpreter.builder(), "-I", "-m", "venv", b.env.Dir}
	if p.external {
		args = append(args, "--without-pip")
	}
	return b.run(ctx, "creating the environment", "create the environment", b.work, nil, args...)
}

func (p pip) install(ctx context.Context, b *build, file string) error {
	args := []string{b.env.Python, "-I", "-m", "pip"}
	if p.external {
		// Without -I, since this pip may be in the user's own folder.
		args = []string{b.spec.Interpreter.builder(), "-m", "pip", "--python", b.env.Python}
	}
	args = append(args, "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--requirement", file)
	packages := summary(b.lines)
	run := func(args []string) error {
		return b.run(ctx, "installing "+packages, "install "+packages, b.spec.Base, nil, args...)
	}
	err := run(args)
	if e, ok := errors.AsType[*Error](err); ok && e.Requirements && missingPackage.MatchString(e.Output) {
		// The index may have answered with an error, which pip writes only to its log. The
		// log is not kept from the beginning, since the output of builds would go there, too.
		again := run(append(args, "--log", b.pipLog()))
		if fault, ok := errors.AsType[*Error](again); !ok || !fault.Requirements {
			return again
		}
	}
	return err
}

// forget does nothing: pip keeps archives, which it checks, and no files.
func (p pip) forget(context.Context, *build, []string) bool { return false }

//go:embed scripts/pipconfig.py
var pipConfigScript string

const pipConfigMark = "gophersnake-pip:"

// pipConfig is the configuration of pip: the words of each option's value.
type pipConfig map[string][]string

// readPipConfig reads pip's configuration files and variables. A Python script does
// it, since Python's parser defines the format of the files.
func readPipConfig(ctx context.Context, python Interpreter) (pipConfig, error) {
	const op = "read pip's configuration"
	out, tail, err := command{args: []string{python.Path, "-I", "-c", pipConfigScript}}.run(ctx)
	if ctx.Err() != nil {
		return nil, canceled(ctx, op)
	}
	var config pipConfig
	if err == nil {
		err = decodeMarked(out, pipConfigMark, &config)
	}
	if err != nil {
		return nil, &Error{Op: op, Output: tail, Cause: err, Hint: "choose another interpreter with --python"}
	}
	return config, nil
}

// translations map pip's options to uv's variables.
var translations = []struct{ pip, uv, separator string }{
	{"find-links", "UV_FIND_LINKS", ","},
	{"trusted-host", "UV_INSECURE_HOST", " "},
	{"constraint", "UV_CONSTRAINT", " "},
	{"timeout", "UV_HTTP_TIMEOUT", " "},
	{"retries", "UV_HTTP_RETRIES", " "},
	{"cert", "SSL_CERT_FILE", " "},
	{"client-cert", "SSL_CLIENT_CERT", " "},
	{"proxy", "HTTPS_PROXY", " "},
	{"proxy", "HTTP_PROXY", " "},
}

// uvSettings translates the configuration to variables and arguments of uv. Settings
// that uv has already are kept.
func (c pipConfig) uvSettings(base string, lines []string) (env, args []string) {
	set := func(name, value string) {
		if value != "" && os.Getenv(name) == "" && os.Getenv(strings.ToLower(name)) == "" {
			env = append(env, name+"="+value)
		}
	}
	several := slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "--extra-index-url") })
	if !uvHasIndex(base) {
		set("UV_DEFAULT_INDEX", strings.Join(c["index-url"], " "))
		set("UV_INDEX", strings.Join(c["extra-index-url"], " "))
		several = several || len(c["extra-index-url"]) > 0
		if c.on("no-index") {
			args = append(args, "--no-index")
		}
	}
	if several {
		// Otherwise uv takes the version of the first index, however old.
		set("UV_INDEX_STRATEGY", "unsafe-best-match")
	}
	for _, t := range translations {
		value := strings.Join(c[t.pip], t.separator)
		if t.pip == "timeout" {
			value, _, _ = strings.Cut(value, ".") // uv accepts whole seconds only
		}
		set(t.uv, value)
	}
	if c.on("pre") {
		set("UV_PRERELEASE", "allow")
	}
	for _, option := range []string{"only-binary", "no-binary"} {
		for _, value := range c[option] {
			for name := range strings.SplitSeq(value, ",") {
				args = append(args, "--"+option, name)
			}
		}
	}
	return env, args
}

// on reports whether a switch is on.
func (c pipConfig) on(option string) bool {
	return len(c[option]) > 0 && slices.Contains([]string{"1", "y", "yes", "t", "true", "on"}, strings.ToLower(c[option][0]))
}

// indexSetting matches a setting of an index in the files of uv.
var indexSetting = regexp.MustCompile(`(?m)^\s*(\[\[(tool\.uv\.)?index\]\]|(extra-)?index(-url)?\s*=|no-index\s*=)`)

// uvHasIndex reports whether uv is configured with an index: by variables, by its own
// files, or by the files of the project that the pipeline is part of.
func uvHasIndex(base string) bool {
	for _, name := range []string{"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	config := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); err == nil && config == "" {
		config = filepath.Join(home, ".config")
	}
	files := []string{"/etc/uv/uv.toml", filepath.Join(config, "uv", "uv.toml")}
	for dir := base; ; dir = filepath.Dir(dir) {
		files = append(files, filepath.Join(dir, "uv.toml"), filepath.Join(dir, "pyproject.toml"))
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return slices.ContainsFunc(files, func(file string) bool {
		content, err := os.ReadFile(file)
		return err == nil && indexSetting.Match(content)
	})
}
