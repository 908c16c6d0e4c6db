package input

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// longestLine is the largest size of a line in bytes.
const longestLine = 64 << 20

// lineReader reads a stream line by line, as text or as JSON values.
type lineReader struct {
	stream *Stream
	from   *bufio.Reader
	text   bool
	number int    // of the last line
	line   []byte // the last line; its memory is reused
}

func (l *lineReader) place() string { return fmt.Sprintf("%s:%d", l.stream.Name, l.number) }

func (l *lineReader) next() (any, error) {
	for {
		l.number++
		if err := l.readLine(); err != nil {
			return nil, err
		}
		if l.number == 1 {
			if encoding := document.GuessEncoding(l.line); encoding != "" {
				return nil, Named(l.stream.Name, document.WrongEncoding(encoding, "the text"))
			}
			l.line = bytes.TrimPrefix(l.line, document.ByteOrderMark)
		}
		if l.text {
			return l.decodeText()
		}
		if line := bytes.TrimSpace(l.line); len(line) > 0 {
			return l.decodeJSON(line)
		}
	}
}

// readLine reads the next line with its line feed. The last line may have none.
func (l *lineReader) readLine() error {
	l.line = l.line[:0]
	for {
		part, err := l.from.ReadSlice('\n')
		l.line = append(l.line, part...)
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(l.line) > 0:
			return nil
		case errors.Is(err, io.EOF):
			return io.EOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return l.stream.readError(err)
		case len(l.line) > longestLine:
			return runner.NewError(runner.KindSerialization, l.place()+fmt.Sprintf(": the line is longer than %s", terminal.ByteCount(longestLine)))
		}
	}
}

func (l *lineReader) decodeText() (any, error) {
	line := bytes.TrimSuffix(l.line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if !utf8.Valid(line) {
		return nil, runner.NewError(runner.KindSerialization, l.place()+": the line is not valid UTF-8 text")
	}
	return string(line), nil
}

func (l *lineReader) decodeJSON(line []byte) (any, error) {
	value, err := document.Parse(line)
	if err == nil {
		return value, nil
	}
	e := Named(l.place(), err)
	if errors.Is(err, document.ErrSyntax) {
		e = e.WithHint("each line must be one JSON value; if the lines are text, use --input-format text")
	}
	return nil, e
}
