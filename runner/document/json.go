package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/jsonvalue"
)

// ErrSyntax is wrapped by the errors of [Parse] for text that is not JSON.
var ErrSyntax = errors.New("invalid JSON")

// Parse parses one JSON document in UTF-8; a byte order mark before it is skipped.
// Objects become [ipc.Object], so that their members keep their order; of a key that occurs
// twice, the last value counts. Integers become
// int64, or uint64 if they do not fit; an integer of more than 64 bits is an error, since a
// float64 would round it. Text in another encoding, bytes that are not UTF-8 and halves of
// surrogate pairs are errors, too, since a replacement would go unnoticed. These errors are
// of type *[runner.Error] and do not wrap ErrSyntax.
func Parse(data []byte) (any, error) { return parse(data, number) }

// ParseNumbers is [Parse] for a document that is only written again: each number
// becomes a [json.Number] with the same digits.
func ParseNumbers(data []byte) (any, error) {
	return parse(data, func(text string) (any, *runner.Error) { return json.Number(text), nil })
}

// parse parses a document; convert returns the value of a number.
func parse(data []byte, convert func(text string) (any, *runner.Error)) (any, error) {
	if encoding := GuessEncoding(data); encoding != "" {
		return nil, WrongEncoding(encoding, "the JSON")
	}
	text := bytes.TrimPrefix(data, ByteOrderMark)
	p := &parser{tokens: newDecoder(text), convert: convert}
	value, err := p.value()
	if e, ok := errors.AsType[*runner.Error](err); ok {
		p.tokens = newDecoder(text)
		if err = p.tokens.SkipValue(); err == nil {
			err = p.end()
		}
		if err == nil { // only the number is at fault
			e.Path = "input" + e.Path
			return nil, e
		}
	} else if err == nil {
		err = p.end()
	}
	if err == nil {
		return value, nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return nil, syntaxError(data, len(data)-len(text), syntax)
	}
	if errors.Is(err, ErrSyntax) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: there is no value", ErrSyntax)
}

func newDecoder(text []byte, options ...jsontext.Options) *jsontext.Decoder {
	// The decoder reads the text of a buffer in place.
	return jsontext.NewDecoder(bytes.NewBuffer(text), append(options, jsontext.AllowDuplicateNames(true))...)
}

// end returns an error if something follows the value.
func (p *parser) end() error {
	if _, err := p.tokens.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: unexpected data after the value", ErrSyntax)
	}
	return nil
}

// syntaxError returns the error for text that is not JSON. If only its characters are
// invalid, the text was meant to be JSON, and the error is a *runner.Error.
// The parser has skipped some bytes at the beginning of the data.
func syntaxError(data []byte, skipped int, syntax *jsontext.SyntacticError) error {
	offset := skipped + int(syntax.ByteOffset)
	reason, at := syntax.Err.Error(), place(data, offset)
	lenient := newDecoder(data[skipped:], jsontext.AllowInvalidUTF8(true))
	first := lenient.SkipValue()
	if second := lenient.SkipValue(); first == nil && errors.Is(second, io.EOF) {
		if strings.Contains(reason, "surrogate") {
			return runner.NewError(runner.KindSerialization, "half of a surrogate pair without the other half, "+at).
				WithHint(`write both halves, such as "\ud83d\udc0d", or the character itself`)
		}
		return NotUTF8(data, offset, "the JSON")
	}
	return fmt.Errorf("%w: %s, %s", ErrSyntax, reason, at)
}

// place describes an offset, also as line and column if the text has several lines.
func place(data []byte, offset int) string {
	offset = min(offset, len(data))
	before := data[:offset]
	if !bytes.Contains(bytes.TrimSpace(data), []byte("\n")) {
		return fmt.Sprintf("at byte %d", offset)
	}
	line, start := 1+bytes.Count(before, []byte("\n")), 1+bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("at byte %d (line %d, column %d)", offset, line, 1+len([]rune(string(before[start:]))))
}

// parser parses one document token by token.
type parser struct {
	tokens  *jsontext.Decoder
	convert func(text string) (any, *runner.Error)
}

// value parses the next value. The path of an error begins at that value.
func (p *parser) value() (any, error) {
	token, err := p.tokens.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return p.object()
	case '[':
		return p.list()
	case 'n':
		return nil, nil
	case 't', 'f':
		return token.Bool(), nil
	case '0':
		value, e := p.convert(token.String())
		if e != nil {
			return nil, e // as it is: a nil *runner.Error is not a nil error
		}
		return value, nil
	}
	return token.String(), nil
}

// mostSearched is the number of members up to which a key is searched for without an index.
const mostSearched = 16

func (p *parser) object() (any, error) {
	members, places := ipc.Object{}, map[string]int(nil)
	for p.tokens.PeekKind() != '}' {
		key, err := p.tokens.ReadToken()
		if err != nil {
			return nil, err
		}
		name := key.String()
		value, err := p.value()
		if err != nil {
			return nil, below("."+name, err)
		}
		place := slices.IndexFunc(members[:min(len(members), mostSearched)], func(m ipc.Member) bool { return m.Key == name })
		if indexed, again := places[name]; again {
			place = indexed
		}
		if place >= 0 {
			members[place].Value = value
			continue
		}
		if len(members) >= mostSearched {
			if places == nil {
				places = make(map[string]int)
			}
			places[name] = len(members)
		}
		members = append(members, ipc.Member{Key: name, Value: value})
	}
	_, err := p.tokens.ReadToken()
	return members, err
}

func (p *parser) list() (any, error) {
	items := []any{}
	for p.tokens.PeekKind() != ']' {
		value, err := p.value()
		if err != nil {
			return nil, below(fmt.Sprintf("[%d]", len(items)), err)
		}
		items = append(items, value)
	}
	_, err := p.tokens.ReadToken()
	return items, err
}

// below adds a step to the path of an error.
func below(step string, err error) error {
	if e, ok := errors.AsType[*runner.Error](err); ok {
		e.Path = step + e.Path
	}
	return err
}

// number returns the value of a number of a document.
func number(text string) (any, *runner.Error) {
	if v := jsonvalue.Number(text); v != nil {
		return v, nil
	}
	return nil, runner.NewError(runner.KindSerialization, fmt.Sprintf("the number %s does not fit in 64 bits", shorten(text))).
		WithHint("write it as a string, in quotes")
}

// shorten cuts the digits of a number in a message.
func shorten(digits string) string {
	if len(digits) > 40 {
		return digits[:39] + "…"
	}
	return digits
}
