package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/runner"
)

// longestLine bounds what is read in search of a line's end.
const longestLine = 64 << 20

// lineItems are the lines of a text, or the JSON values in them.
type lineItems struct {
	in     *streamInput
	from   *bufio.Reader
	text   bool
	number int
	line   []byte // the memory of the last one
}

func (l *lineItems) place() string { return fmt.Sprintf("%s:%d", l.in.name, l.number) }

func (l *lineItems) next() (any, error) {
	for {
		l.number++
		if err := l.read(); err != nil {
			return nil, err
		}
		if l.text {
			return l.asText()
		}
		if line := bytes.TrimSpace(l.line); len(line) > 0 {
			return l.asJSON(line)
		}
	}
}

// read reads a line, its end included where it has one.
func (l *lineItems) read() error {
	l.line = l.line[:0]
	for {
		part, err := l.from.ReadSlice('\n')
		l.line = append(l.line, part...)
		switch {
		case err == nil, err == io.EOF && len(l.line) > 0:
			return nil
		case err == io.EOF:
			return err
		case !errors.Is(err, bufio.ErrBufferFull):
			return l.in.failed(err)
		case len(l.line) > longestLine:
			return runner.NewError(runner.KindSerialization, l.place()+fmt.Sprintf(": the line is longer than %s", byteCount(longestLine)))
		}
	}
}

func (l *lineItems) asText() (any, error) {
	line := bytes.TrimSuffix(l.line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if !utf8.Valid(line) {
		return nil, runner.NewError(runner.KindSerialization, l.place()+": the line is no text: it is not UTF-8")
	}
	return string(line), nil
}

func (l *lineItems) asJSON(line []byte) (any, error) {
	value, err := parseJSON(line)
	if err == nil {
		return value, nil
	}
	e := runner.Wrap(err, runner.KindSerialization, l.place())
	if errors.Is(err, errSyntax) {
		e = e.WithHint("each line is one JSON value; for lines that are text: --input-format text")
	}
	return nil, e
}
