package input

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// StreamHelp describes the input of a stream.
const StreamHelp = `The format of the input is detected from its first bytes, or set by --input-format:
  jsonl  each line is an item, a JSON value; blank lines are skipped
  text   each line is an item, a string
  wav    a recording, which is sent as Audio in chunks of the length --chunk; its
         header may leave the length of the recording open
  pcm    raw samples without a header; --rate is required, --channels and
         --sample-format are optional`

// Format says how the input of a stream is read.
type Format struct {
	Name           string        // auto, jsonl, text, wav or pcm
	Rate, Channels int           // of pcm
	Samples        string        // of pcm: s16le or f32le
	Chunk          time.Duration // of wav and pcm
	// Realtime says that the input must be a recording, to be sent at the speed of
	// speech.
	Realtime bool
}

// Check returns a usage error if the format is invalid.
func (f Format) Check() error {
	if err := failure.CheckChoice("input-format", f.Name, "auto", "jsonl", "text", "wav", "pcm"); err != nil {
		return err
	}
	if err := failure.CheckChoice("sample-format", f.Samples, "s16le", "f32le"); err != nil {
		return err
	}
	switch {
	case f.Name == "pcm" && (f.Rate < 1 || f.Rate > math.MaxUint32):
		return failure.Usagef("--input-format pcm needs --rate, the number of samples per second, such as 16000")
	case f.Channels < 1 || f.Channels > math.MaxUint16:
		return failure.Usagef("--channels takes a number from 1 to %d, not %d", math.MaxUint16, f.Channels)
	}
	return nil
}

// Stream is the input of a stream: standard input or one file.
type Stream struct {
	// Name identifies the input in messages.
	Name string
	// Stem begins the names of the files that are made of results.
	Stem string
	// Info describes the file; it is nil for standard input.
	Info os.FileInfo

	path  string // of the file, empty for standard input
	stdin io.Reader
	warn  func(message string, args ...any)
}

// NewStream returns the stream for a path, or for standard input if path is "-". It does
// not open the file, which may block, for instance for a named pipe. It calls warn, on
// another goroutine, if a recording is damaged.
func NewStream(stdin io.Reader, path string, warn func(message string, args ...any)) (*Stream, error) {
	if path == "-" {
		return &Stream{Name: "standard input", Stem: "stdin", stdin: stdin, warn: warn}, nil
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, runner.Wrap(err, runner.KindIO, "read the input")
	case info.IsDir():
		return nil, failure.Usagef("the input %s is a folder; a stream reads one file", path)
	}
	return &Stream{Name: path, Stem: stemOf(path), Info: info, path: path, warn: warn}, nil
}

// Files returns the absolute paths of the files that no output may overwrite.
func (s *Stream) Files() []string {
	absolute, err := filepath.Abs(s.path)
	if s.path == "" || err != nil {
		return nil
	}
	return []string{absolute}
}

// Item is one item of a stream, or the error that ended its input.
type Item struct {
	Value any
	// Place is the position of the item in the input, for instance "orders.jsonl:3".
	Place string
	Err   error
}

// Items opens the input and reads it until it ends or the context does. At the end of the
// input the channel is closed; an item with an error is the last one. When the context
// ends, nothing more is sent, and the channel stays open. Reading is at most one item
// ahead of the receiver. Items returns at once; a read that blocks may outlive the
// context.
func (s *Stream) Items(ctx context.Context, f Format) <-chan Item {
	items := make(chan Item)
	go s.read(ctx, f, items)
	return items
}

// read sends the items of the input.
func (s *Stream) read(ctx context.Context, f Format, items chan<- Item) {
	send := func(item Item) bool {
		select {
		case items <- item:
			return item.Err == nil
		case <-ctx.Done():
			return false
		}
	}
	file, err := s.open()
	if err != nil {
		send(Item{Err: err})
		return
	}
	defer func() { _ = file.Close() }() // it was only read
	r, err := s.newReader(file, f)
	if err != nil {
		send(Item{Err: err})
		return
	}
	for {
		value, err := r.next()
		if errors.Is(err, io.EOF) {
			close(items)
			return
		}
		if !send(Item{Value: value, Place: r.place(), Err: err}) {
			return
		}
	}
}

// open opens the input; for a named pipe it waits until a writer opens it, too.
func (s *Stream) open() (io.ReadCloser, error) {
	if s.path == "" {
		return io.NopCloser(s.stdin), nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, s.readError(err)
	}
	return f, nil
}

// itemReader reads the items of one format.
type itemReader interface {
	// next blocks until it has read the next item; the error is io.EOF at the end.
	next() (any, error)
	// place returns the position of the last item in the input.
	place() string
}

// newReader returns the reader for a format. It blocks until it has read the first bytes
// if it must detect the format.
func (s *Stream) newReader(r io.Reader, f Format) (itemReader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if f.Name == "auto" {
		f.Name = "jsonl"
		if beginsLikeWAV(buffered) {
			f.Name = "wav"
		}
	}
	if f.Realtime && (f.Name == "jsonl" || f.Name == "text") {
		return nil, failure.Usagef("--realtime needs a recording; %s is %s", s.Name, f.Name)
	}
	switch f.Name {
	case "wav":
		decoder := media.Decoder{Warn: func(message string) { s.warn(message, "input", s.Name) }}
		audio, err := decoder.NewWAVReader(buffered)
		if err != nil {
			return nil, s.readError(err)
		}
		return newAudioReader(s, audio, f.Chunk), nil
	case "pcm":
		format := media.Int16
		if f.Samples == "f32le" {
			format = media.Float32
		}
		return newAudioReader(s, media.NewPCMReader(buffered, f.Rate, f.Channels, format), f.Chunk), nil
	}
	return &lineReader{stream: s, from: buffered, text: f.Name == "text"}, nil
}

// readError adds the name of the input to an error.
func (s *Stream) readError(err error) error {
	if _, ok := errors.AsType[*media.Error](err); ok {
		return mediaError(s.Name, "", err)
	}
	return runner.Wrap(err, runner.KindIO, "read "+s.Name)
}

// beginsLikeWAV reports whether the input begins with the name of a WAV format. It waits
// for no more bytes than it needs, since a first line of text may be shorter than that
// name and the second line may be long in coming.
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
