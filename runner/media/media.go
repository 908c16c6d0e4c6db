// Package media decodes files to the values that nodes receive, and encodes results
// to files: WAV audio, images, NumPy arrays.
//
//   - WAV: [DecodeWAV], [EncodeWAV], and [NewWAVReader] for streams
//   - PCM, samples without a header: [NewPCMReader] for streams
//   - PNG: [DecodeImage], [EncodePNG]
//   - JPEG, WebP, GIF, TIFF and BMP: [DecodeImage]
//   - NPY: [DecodeNPY], [EncodeNPY]
//
// [Decode] and [ReadFile] recognize a format by the first bytes of the data, not by
// the file's name. An [*Error] says why data cannot be decoded or a value cannot be
// encoded, and what to do about it. A [Decoder] also reports what a value leaves out. The
// functions may be called concurrently.
package media

import (
	"fmt"
	"os"
)

// Error says why data cannot be decoded, or why a value cannot be encoded.
type Error struct {
	// Format is the format in question, for instance "WAV".
	Format string
	// Reason says what is wrong.
	Reason string
	// Hint says what to do next; it may be empty.
	Hint string
}

// Error returns the format, the reason and the hint in one line.
func (e *Error) Error() string {
	text := e.Format + ": " + e.Reason
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func errorf(format, reason string, args ...any) *Error {
	return &Error{Format: format, Reason: fmt.Sprintf(reason, args...)}
}

func (e *Error) withHint(hint string) *Error {
	e.Hint = hint
	return e
}

// Known reports whether data begins like a format that [Decode] reads. 12 bytes of
// data are enough.
func Known(data []byte) bool { return isWAV(data) || isImage(data) }

// Decoder decodes files and reports what their values leave out. The zero value is what
// the functions [Decode], [DecodeWAV], [DecodeImage] and [NewWAVReader] use.
type Decoder struct {
	// Warn is called, on the goroutine that decodes, for each thing in a file that is
	// damaged or that the value cannot hold. The message is a sentence without the name of
	// the file. Warn may be nil.
	Warn func(message string)
}

func (d Decoder) warnf(format string, args ...any) {
	if d.Warn != nil {
		d.Warn(fmt.Sprintf(format, args...))
	}
}

// Decode decodes a file of any format that it recognizes. It returns an *ipc.Audio or
// an *ipc.Image. Its error is an [*Error].
func (d Decoder) Decode(data []byte) (any, error) {
	switch {
	case isWAV(data):
		return d.DecodeWAV(data)
	case isImage(data):
		return d.DecodeImage(data)
	}
	return nil, unsupported("media", data)
}

// Decode is [Decoder.Decode] without warnings.
func Decode(data []byte) (any, error) { return Decoder{}.Decode(data) }

// ReadFile reads the file at path and decodes it as [Decode] does. The error is an
// [*Error], or that of the file system.
func ReadFile(path string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Decode(data)
}
