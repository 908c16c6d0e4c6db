package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

const inputHelp = `An input is, by the first of these that fits:
  -             standard input: JSON, a WAV, PNG or JPEG file, or else text (less its
                last line end)
  @FILE         a file, whatever its name; @*.wav is a pattern
  JSON          any JSON text: 42, "text", {"key": [1, 2]}
  FILE          an existing file
  PATTERN       a pattern that files match: 'clips/*.wav'
  text          anything else

A file is read by its ending: .wav is Audio, .png and .jpg an Image, .json a value,
.jsonl one input a line; any other is text where it is UTF-8, else bytes.`

// source is one input of a run, read only when its turn comes.
type source struct {
	// name is what it is called in messages.
	name string
	// stem begins the names of the files made of its result.
	stem string
	load func() (any, error)
}

// sourceSet is the inputs of a command.
type sourceSet struct {
	sources []source
	// many says that several inputs were asked for, even if only one was found, so
	// that the form of the output does not hang on what a pattern matches.
	many bool
	// none says that no input was given.
	none bool
	// files are the input files, which no output may overwrite.
	files []string
}

// sourceReader turns the inputs of the command line into sources.
type sourceReader struct {
	stdin io.Reader
	warn  func(message string, args ...any)

	set       sourceSet
	usedStdin bool
}

// readSources resolves the inputs; without any, there is one: null.
func readSources(stdin io.Reader, warn func(string, ...any), inputs []string) (sourceSet, error) {
	r := &sourceReader{stdin: stdin, warn: warn}
	if len(inputs) == 0 {
		r.add("null", "input", func() (any, error) { return nil, nil })
		r.set.none = true
		return r.set, nil
	}
	r.set.many = len(inputs) > 1
	for _, input := range inputs {
		if err := r.read(input); err != nil {
			return sourceSet{}, err
		}
	}
	return r.set, nil
}

func (r *sourceReader) add(name, stem string, load func() (any, error)) {
	r.set.sources = append(r.set.sources, source{name: name, stem: stem, load: load})
}

func (r *sourceReader) read(input string) error {
	if input == "-" {
		return r.readStdin()
	}
	if file, ok := strings.CutPrefix(input, "@"); ok {
		return r.readFiles(file, true)
	}
	if value, err := parseJSON([]byte(input)); err == nil {
		r.add(input, r.stem(), func() (any, error) { return value, nil })
		return nil
	} else if runner.KindOf(err) == runner.KindSerialization && !errors.Is(err, errSyntax) {
		return err // JSON, but of a number that nothing holds
	}
	return r.readFiles(input, false)
}

// stem names an input that is no file.
func (r *sourceReader) stem() string {
	if r.set.many {
		return fmt.Sprintf("input-%d", len(r.set.sources)+1)
	}
	return "input"
}

func (r *sourceReader) readStdin() error {
	if r.usedStdin {
		return usagef("standard input (-) can be read only once")
	}
	r.usedStdin = true
	r.add("-", "stdin", func() (any, error) {
		data, err := io.ReadAll(r.stdin)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read standard input")
		}
		if media.Known(data) {
			return decodeMedia("standard input", data)
		}
		value, err := parseJSON(data)
		switch {
		case err == nil:
			return value, nil
		case !errors.Is(err, errSyntax):
			return nil, err
		case !utf8.Valid(data):
			return data, nil
		}
		data = bytes.TrimSuffix(data, []byte("\n"))
		return string(bytes.TrimSuffix(data, []byte("\r"))), nil
	})
	return nil
}

// readFiles adds the files that a name or a pattern stands for. What stands for
// none is text, unless a file was meant.
func (r *sourceReader) readFiles(name string, meant bool) error {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return usagef("the input %s is a folder; give the files in it: '%s'", name, filepath.Join(name, "*"))
	case err == nil:
		return r.readFile(name)
	}
	matches, bad := filepath.Glob(name)
	if len(matches) > 0 {
		r.set.many = true
		return r.readMatches(matches)
	}
	if !meant && (!looksLikeFile(name) || strings.ContainsAny(name, " \n")) {
		if strings.HasPrefix(name, "{") || strings.HasPrefix(name, "[") {
			r.warn("an input begins like JSON, but is not; it is taken as text", "input", shorten(name, 60))
		}
		r.add(name, r.stem(), func() (any, error) { return name, nil })
		return nil
	}
	hint := fmt.Sprintf("see whether the path is right; if this is text, write it as JSON: '%q'", name)
	switch {
	case strings.ContainsAny(name, "*?["):
		return runner.NewError(runner.KindIO, "no file matches the input "+name).WithHint(hint)
	case errors.Is(err, fs.ErrNotExist):
		return runner.NewError(runner.KindIO, "there is no input file "+name).WithHint(hint)
	case bad != nil:
		err = bad
	}
	return runner.Wrap(err, runner.KindIO, "the input "+name)
}

func (r *sourceReader) readMatches(matches []string) error {
	before := len(r.set.sources)
	for _, match := range matches { // in the order of their names
		if info, err := os.Stat(match); err == nil && info.IsDir() {
			continue
		}
		if err := r.readFile(match); err != nil {
			return err
		}
	}
	if len(r.set.sources) == before {
		return usagef("only folders match the input; give the files in them: '%s'", filepath.Join(matches[0], "*"))
	}
	return nil
}

// fileEndings are those of which a name can only mean a file.
var fileEndings = []string{".wav", ".png", ".jpg", ".jpeg", ".json", ".jsonl", ".txt"}

func looksLikeFile(name string) bool {
	return slices.Contains(fileEndings, strings.ToLower(filepath.Ext(name)))
}

func (r *sourceReader) readFile(path string) error {
	if absolute, err := filepath.Abs(path); err == nil {
		r.set.files = append(r.set.files, absolute)
	}
	stem := fileStem(path)
	if strings.EqualFold(filepath.Ext(path), ".jsonl") {
		return r.readLines(path, stem)
	}
	r.add(path, stem, func() (any, error) { return loadFile(path) })
	return nil
}

// fileStem begins the names of the files made of what a file came to.
func fileStem(path string) string {
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// loadFile reads a file as the value that its ending says.
func loadFile(path string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "read the input")
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".wav":
		audio, err := media.DecodeWAV(data)
		return audio, mediaError(path, err)
	case ".png", ".jpg", ".jpeg":
		picture, err := media.DecodeImage(data)
		return picture, mediaError(path, err)
	case ".json":
		value, err := parseJSON(data)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindSerialization, path)
		}
		return value, nil
	}
	if !utf8.Valid(data) {
		return data, nil
	}
	return string(data), nil
}

func decodeMedia(name string, data []byte) (any, error) {
	value, err := media.Decode(data)
	return value, mediaError(name, err)
}

func mediaError(name string, err error) error {
	if err == nil {
		return nil
	}
	e := runner.Wrap(err, runner.KindSerialization, "cannot read "+name)
	if bad, ok := errors.AsType[*media.Error](err); ok {
		e = runner.NewError(runner.KindSerialization, fmt.Sprintf("cannot read %s: %s: %s", name, bad.Format, bad.Reason)).WithHint(bad.Hint)
	}
	return e
}

// readLines adds an input for each line of a file that is not empty.
func (r *sourceReader) readLines(path, stem string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return runner.Wrap(err, runner.KindIO, "read the input")
	}
	r.set.many = true
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		name := fmt.Sprintf("%s:%d", path, number)
		r.add(name, fmt.Sprintf("%s-%d", stem, number), func() (any, error) {
			value, err := parseJSON(line)
			if err != nil {
				return nil, runner.Wrap(err, runner.KindSerialization, name)
			}
			return value, nil
		})
	}
	return nil
}

// shorten keeps the beginning of a text, in one line.
func shorten(text string, length int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length-1]) + "…"
	}
	return text
}
