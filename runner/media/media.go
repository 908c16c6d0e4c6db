// Package media decodes files to the values that nodes receive, and encodes results
// to files: WAV audio, PNG and JPEG images, NumPy arrays.
//
//   - WAV: [DecodeWAV], [EncodeWAV], and [NewWAVReader] for streams
//   - PCM, samples without a header: [NewPCMReader] for streams
//   - PNG: [DecodeImage], [EncodePNG]
//   - JPEG: [DecodeImage]
//   - NPY: [EncodeNPY]
//
// [Decode] and [ReadFile] recognize a format by the first bytes of the data, not by
// the file's name. An [*Error] says why data cannot be decoded or a value cannot be
// encoded, and what to do about it. The functions may be called concurrently.
package media

import (
	"bytes"
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

// Decode decodes a file of any format that it recognizes. It returns an *ipc.Audio or
// an *ipc.Image. Its error is an [*Error].
func Decode(data []byte) (any, error) {
	switch {
	case isWAV(data):
		return DecodeWAV(data)
	case isImage(data):
		return DecodeImage(data)
	}
	return nil, unsupported("media", data)
}

// ReadFile reads the file at path and decodes it as [Decode] does. The error is an
// [*Error], or that of the file system.
func ReadFile(path string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Decode(data)
}

// unsupportedFormats are the formats that are recognized only for a better message.
var unsupportedFormats = []struct {
	name   string
	offset int // of magic
	magic  string
	audio  bool
}{
	{"MP3", 0, "ID3", true},
	{"MP3", 0, "\xff\xfb", true},
	{"MP3", 0, "\xff\xf3", true},
	{"FLAC", 0, "fLaC", true},
	{"Ogg", 0, "OggS", true},
	{"AIFF", 0, "FORM", true},
	{"big-endian WAV (RIFX)", 0, "RIFX", true},
	{"Matroska or WebM", 0, "\x1a\x45\xdf\xa3", true},
	{"MP4 or M4A", 4, "ftyp", true},
	{"GIF", 0, "GIF8", false},
	{"WebP", 8, "WEBP", false},
	{"TIFF", 0, "II*\x00", false},
	{"TIFF", 0, "MM\x00*", false},
	{"BMP", 0, "BM", false},
}

// unsupported returns the error for data of another format. It names that format if
// it is known, and says how to convert it.
func unsupported(format string, data []byte) *Error {
	if len(data) == 0 {
		return errorf(format, "the file is empty")
	}
	for _, u := range unsupportedFormats {
		if len(data) < u.offset || !bytes.HasPrefix(data[u.offset:], []byte(u.magic)) {
			continue
		}
		hint := "convert it to PNG"
		if u.audio {
			hint = convertToWAV
		}
		return errorf(format, "this is %s, which is not supported", u.name).withHint(hint)
	}
	return errorf(format, "the data begins with % x, which is neither WAV, PNG nor JPEG", data[:min(len(data), 8)])
}

const convertToWAV = "convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
