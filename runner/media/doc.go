// Package media turns files into the values that nodes take, and results into
// files: WAV recordings, PNG and JPEG pictures, NumPy arrays.
//
// [Decode] and [ReadFile] tell a format by the first bytes of the data, not by
// the file's name. An [*Error] says what is wrong with data that cannot be read,
// and what to do about it.
package media

import (
	"bytes"
	"fmt"
	"os"
)

// Error says why data cannot be decoded, or a value cannot be encoded.
type Error struct {
	// Format is the format that was read or written, for instance "WAV".
	Format string
	// Reason says what is wrong.
	Reason string
	// Hint says what to do next; it may be empty.
	Hint string
}

// Error returns the reason and the hint in one line.
func (e *Error) Error() string {
	text := e.Format + ": " + e.Reason
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func fail(format, reason string, args ...any) *Error {
	return &Error{Format: format, Reason: fmt.Sprintf(reason, args...)}
}

func (e *Error) hint(text string) *Error {
	e.Hint = text
	return e
}

// Known reports whether data begins like a format that [Decode] reads.
func Known(data []byte) bool { return isWAV(data) || isImage(data) }

// Decode returns the recording (*ipc.Audio) or the picture (*ipc.Image) that
// data holds. Its error is an [*Error].
func Decode(data []byte) (any, error) {
	switch {
	case isWAV(data):
		return DecodeWAV(data)
	case isImage(data):
		return DecodeImage(data)
	}
	return nil, unknown("media", data)
}

// ReadFile is Decode for a file.
func ReadFile(path string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Decode(data)
}

// others are formats that are not read, by how they begin.
var others = []struct {
	name  string
	at    int
	magic string
	sound bool
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

// unknown names what data is, where that is known, and how to convert it.
func unknown(format string, data []byte) *Error {
	if len(data) == 0 {
		return fail(format, "the file is empty")
	}
	for _, o := range others {
		if len(data) < o.at || !bytes.HasPrefix(data[o.at:], []byte(o.magic)) {
			continue
		}
		if o.sound {
			return fail(format, "this is %s, which is not read", o.name).hint(toPCM)
		}
		return fail(format, "this is %s, which is not read", o.name).hint("convert it to PNG")
	}
	return fail(format, "the data begins with % x, which is neither WAV, PNG nor JPEG", data[:min(len(data), 8)])
}

const toPCM = "convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
