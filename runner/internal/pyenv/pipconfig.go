package pyenv

import (
	"context"
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed pipconfig.py
var pipConfigScript string

const pipConfigMark = "gophersnake-pip:"

// pipConfig is what pip is configured to do: the words of each option's value.
type pipConfig map[string][]string

// readPipConfig reads pip's files and variables. Python does, whose own parser
// settles what the files mean.
func readPipConfig(ctx context.Context, python Interpreter) (pipConfig, error) {
	const op = "read pip's configuration"
	out, tail, err := command{args: []string{python.Path, "-I", "-c", pipConfigScript}}.run(ctx)
	if ctx.Err() != nil {
		return nil, canceled(ctx, op)
	}
	var config pipConfig
	if err == nil {
		_, answer, _ := strings.Cut(out, pipConfigMark)
		line, _, _ := strings.Cut(answer, "\n")
		err = json.Unmarshal([]byte(line), &config)
	}
	if err != nil {
		return nil, &Error{Op: op, Output: tail, Cause: err, Hint: "name another interpreter with --python"}
	}
	return config, nil
}

// translations name pip's options as uv's variables.
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

// forUV says the same to uv, in variables and arguments. What uv has been told
// itself stays as it is.
func (c pipConfig) forUV(base string, lines []string) (env, args []string) {
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
		// uv would take what the first index has, however old.
		set("UV_INDEX_STRATEGY", "unsafe-best-match")
	}
	for _, t := range translations {
		value := strings.Join(c[t.pip], t.separator)
		if t.pip == "timeout" {
			value, _, _ = strings.Cut(value, ".") // uv takes whole seconds
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

// indexSetting is what gives uv an index in its files.
var indexSetting = regexp.MustCompile(`(?m)^\s*(\[\[(tool\.uv\.)?index\]\]|(extra-)?index(-url)?\s*=|no-index\s*=)`)

// uvHasIndex reports whether uv itself was told where packages are: by variables,
// by its own files, or by those of the project that the pipeline is part of.
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
