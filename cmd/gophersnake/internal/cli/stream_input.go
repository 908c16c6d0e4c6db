package cli

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// streamFormat is how a stream's input is read.
type streamFormat struct {
	name           string // auto, jsonl, text, wav or pcm
	rate, channels int    // of pcm
	samples        string // of pcm: s16le or f32le
	chunk          time.Duration
}

// check checks the flags.
func (f streamFormat) check() error {
	if err := outputFormat("input-format", f.name, "auto", "jsonl", "text", "wav", "pcm"); err != nil {
		return err
	}
	if err := outputFormat("sample-format", f.samples, "s16le", "f32le"); err != nil {
		return err
	}
	switch {
	case f.name == "pcm" && (f.rate < 1 || f.rate > math.MaxUint32):
		return usagef("--input-format pcm needs the --rate: how many samples a second there are, such as 16000")
	case f.channels < 1 || f.channels > math.MaxUint16:
		return usagef("--channels takes a number from 1 to %d, not %d", math.MaxUint16, f.channels)
	}
	return nil
}

// streamInput is what a stream's items are read from.
type streamInput struct {
	name  string      // in messages
	stem  string      // begins the names of files
	path  string      // of the file, empty for standard input
	info  os.FileInfo // of the file
	stdin io.Reader
}

func (a *app) newStreamInput(path string) (*streamInput, error) {
	if path == "-" {
		if isTerminal(a.in) {
			a.logger.Info("reading from the keyboard; Ctrl-D at the beginning of a line ends the input")
		}
		return &streamInput{name: "standard input", stem: "stdin", stdin: a.in}, nil
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, runner.Wrap(err, runner.KindIO, "read the input")
	case info.IsDir():
		return nil, usagef("the input %s is a folder; a stream reads one file", path)
	}
	return &streamInput{name: path, stem: fileStem(path), path: path, info: info}, nil
}

// files are those that no file made of a result may overwrite.
func (in *streamInput) files() []string {
	absolute, err := filepath.Abs(in.path)
	if in.path == "" || err != nil {
		return nil
	}
	return []string{absolute}
}

// open may wait, as for the other end of a named pipe.
func (in *streamInput) open() (io.ReadCloser, error) {
	if in.path == "" {
		return io.NopCloser(in.stdin), nil
	}
	f, err := os.Open(in.path)
	if err != nil {
		return nil, in.failed(err)
	}
	return f, nil
}

// items gives what a stream is fed with.
type items interface {
	// next waits for the next item; io.EOF is the end.
	next() (any, error)
	// place says where the item came from that next returned last.
	place() string
}

// items begins to read, which may wait for the first bytes.
func (in *streamInput) items(r io.Reader, f streamFormat, realtime bool) (items, error) {
	from := bufio.NewReaderSize(r, 64<<10)
	if f.name == "auto" {
		f.name = "jsonl"
		if beginsLikeWAV(from) {
			f.name = "wav"
		}
	}
	if realtime && (f.name == "jsonl" || f.name == "text") {
		return nil, usagef("--realtime goes with recordings; %s is %s", in.name, f.name)
	}
	switch f.name {
	case "wav":
		r, err := media.NewWAVReader(from)
		if err != nil {
			return nil, in.failed(err)
		}
		return newAudioItems(in, r, f.chunk), nil
	case "pcm":
		format := media.Int16
		if f.samples == "f32le" {
			format = media.Float32
		}
		return newAudioItems(in, media.NewPCMReader(from, f.rate, f.channels, format), f.chunk), nil
	}
	return &lineItems{in: in, from: from, text: f.name == "text"}, nil
}

// failed is the error of what cannot be read, or not as what it should be.
func (in *streamInput) failed(err error) error {
	if _, ok := err.(*media.Error); ok {
		return mediaError(in.name, err)
	}
	return runner.Wrap(err, runner.KindIO, "read "+in.name)
}

// beginsLikeWAV looks at no more bytes than it takes: the first line of a text may be
// short, and the second one long to come.
func beginsLikeWAV(from *bufio.Reader) bool {
	names := []string{"RIFF", "RF64", "BW64"}
	for n := 1; n <= 4; n++ {
		start, err := from.Peek(n)
		if err != nil || !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, string(start)) }) {
			return false
		}
	}
	return true
}

// audioItems are the chunks of a recording.
type audioItems struct {
	in     *streamInput
	from   *media.AudioReader
	frames int // of each chunk
	chunks int
}

func newAudioItems(in *streamInput, from *media.AudioReader, chunk time.Duration) *audioItems {
	frames := math.Round(chunk.Seconds() * float64(from.Rate()))
	return &audioItems{in: in, from: from, frames: int(max(1, min(frames, math.MaxInt32)))}
}

func (a *audioItems) next() (any, error) {
	audio, err := a.from.Next(a.frames)
	switch {
	case err == io.EOF:
		return nil, err
	case err != nil:
		return nil, a.in.failed(err)
	}
	a.chunks++
	return audio, nil
}

func (a *audioItems) place() string {
	at := float64((a.chunks-1)*a.frames) / float64(a.from.Rate())
	return fmt.Sprintf("%s at %.2f s", a.in.name, at)
}
