package media

import (
	"bytes"
	"strings"
)

// what says what an unsupported format holds.
type what int

const (
	sound what = iota
	picture
	other
)

// unsupportedFormats are the formats that are recognized only for a better message. Of
// those whose beginnings agree, the longer one comes first.
var unsupportedFormats = []struct {
	name   string
	offset int // of magic
	magic  string
	holds  what
}{
	{"MP3", 0, "ID3", sound},
	{"MP3", 0, "\xff\xfb", sound},
	{"MP3", 0, "\xff\xfa", sound},
	{"MP3", 0, "\xff\xf3", sound},
	{"MP3", 0, "\xff\xf2", sound},
	{"AAC", 0, "\xff\xf1", sound},
	{"AAC", 0, "\xff\xf9", sound},
	{"FLAC", 0, "fLaC", sound},
	{"Opus", 28, "OpusHead", sound},
	{"Ogg", 0, "OggS", sound},
	{"AIFF", 8, "AIFF", sound},
	{"AIFF", 8, "AIFC", sound},
	{"big-endian WAV (RIFX)", 0, "RIFX", sound},
	{"AVI", 8, "AVI ", sound},
	{"Matroska or WebM", 0, "\x1a\x45\xdf\xa3", sound},
	{"Windows Media", 0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11", sound},
	{"Sun audio (AU)", 0, ".snd", sound},
	{"Core Audio (CAF)", 0, "caff", sound},
	{"AMR", 0, "#!AMR", sound},
	{"MIDI", 0, "MThd", sound},
	{"WavPack", 0, "wvpk", sound},
	{"HEIC", 4, "ftyphei", picture},
	{"HEIC", 4, "ftyphev", picture},
	{"AVIF", 4, "ftypavi", picture},
	{"HEIC or AVIF", 4, "ftypmif1", picture},
	{"HEIC or AVIF", 4, "ftypmsf1", picture},
	{"raw photo (CR3)", 4, "ftypcrx", picture},
	{"M4A", 4, "ftypM4A", sound},
	{"QuickTime", 4, "ftypqt", sound},
	{"MP4", 4, "ftyp", sound},
	{"JPEG XL", 0, "\xff\x0a", picture},
	{"JPEG XL", 0, "\x00\x00\x00\x0cJXL ", picture},
	{"JPEG 2000", 0, "\x00\x00\x00\x0cjP  ", picture},
	{"JPEG 2000", 0, "\xff\x4f\xff\x51", picture},
	{"Photoshop (PSD)", 0, "8BPS", picture},
	{"icon (ICO)", 0, "\x00\x00\x01\x00", picture},
	{"cursor (CUR)", 0, "\x00\x00\x02\x00", picture},
	{"BigTIFF", 0, "II+\x00", picture},
	{"BigTIFF", 0, "MM\x00+", picture},
	{"QOI", 0, "qoif", picture},
	{"OpenEXR", 0, "\x76\x2f\x31\x01", picture},
	{"Radiance HDR", 0, "#?RADIANCE", picture},
	{"DirectDraw (DDS)", 0, "DDS ", picture},
	{"FITS", 0, "SIMPLE  =", picture},
	{"DICOM", 128, "DICM", picture},
	{"netpbm", 0, "P1\n", picture},
	{"netpbm", 0, "P2\n", picture},
	{"netpbm", 0, "P3\n", picture},
	{"netpbm", 0, "P4\n", picture},
	{"netpbm", 0, "P5\n", picture},
	{"netpbm", 0, "P6\n", picture},
	{"PDF", 0, "%PDF", other},
	{"a NumPy array (NPY)", 0, "\x93NUMPY", other},
	{"a ZIP archive", 0, "PK\x03\x04", other},
	{"gzip data", 0, "\x1f\x8b", other},
}

// formatName returns the name of the format that data begin like, and what it holds. The
// name is empty if the format is unknown.
func formatName(data []byte) (name string, holds what) {
	for _, d := range imageFormats {
		if d.matches(data) {
			return d.name, picture
		}
	}
	if isWAV(data) {
		return "WAV", sound
	}
	for _, u := range unsupportedFormats {
		if len(data) > u.offset && bytes.HasPrefix(data[u.offset:], []byte(u.magic)) {
			return u.name, u.holds
		}
	}
	text := strings.ToLower(strings.TrimSpace(string(bytes.TrimPrefix(data[:min(len(data), 1024)], []byte("\ufeff")))))
	switch {
	case strings.HasPrefix(text, "<svg"), strings.HasPrefix(text, "<?xml") && strings.Contains(text, "<svg"):
		return "SVG", picture
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		return "an HTML page", other
	}
	return "", other
}

// unsupported returns the error for data of another format than the wanted one. It names
// that format if it is known, and says how to convert it.
func unsupported(format string, data []byte) *Error {
	if len(data) == 0 {
		return errorf(format, "the file is empty")
	}
	name, holds := formatName(data)
	switch {
	case name == "":
		return errorf(format, "the data begins with % x, as no WAV, PNG, JPEG, WebP, GIF, TIFF or BMP file does", data[:min(len(data), 8)])
	case name == "WAV", format == "WAV" && holds == picture && isImage(data):
		return errorf(format, "this is %s", name)
	case holds == sound:
		return errorf(format, "this is %s, which is not supported", name).withHint(convertToWAV)
	case holds == picture:
		return errorf(format, "this is %s, which is not supported", name).withHint("convert it to PNG")
	}
	return errorf(format, "this is %s", name)
}

const convertToWAV = "convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
