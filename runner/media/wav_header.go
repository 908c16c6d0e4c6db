package media

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// wavHeader is what comes before the samples of a WAV file.
type wavHeader struct {
	format *wavFormat
	// riff is how many bytes the file has after its first 8, as it says.
	riff uint64
	// length is how many bytes of samples it has, as it says.
	length uint64
	// wide says that the length is one of 64 bits, which no recorder leaves behind.
	wide bool
	// size is how many bytes have been read, up to the first sample.
	size uint64
}

// placeholder is the least of the lengths that recorders write which do not know
// the length: those of sox, arecord and ffmpeg lie between it and the largest one.
const placeholder = 0x7ffff000

// endless reports whether the samples go on to the end of the stream. A length of
// zero is meant where the file says that more follows after the samples.
func (h *wavHeader) endless() bool {
	if h.length == 0 {
		return h.riff <= h.size-8 || h.riff >= placeholder
	}
	return !h.wide && h.length >= placeholder
}

// readHeader walks the chunks up to the one that holds the samples, and leaves r at
// the first of them. The riff package of golang.org/x/image refuses the lengths
// that recorders leave behind.
func readHeader(r io.Reader) (*wavHeader, error) {
	var start [12]byte
	n, err := io.ReadFull(r, start[:])
	if failed(err) {
		return nil, err
	}
	if !isWAV(start[:n]) {
		return nil, unknown("WAV", start[:n])
	}
	h := &wavHeader{riff: uint64(binary.LittleEndian.Uint32(start[4:])), size: 12}
	var long uint64 // the samples' length in an RF64 file
	for {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); failed(err) {
			return nil, err
		} else if err != nil {
			return nil, h.cutOff()
		}
		id, length := string(chunk[:4]), uint64(binary.LittleEndian.Uint32(chunk[4:]))
		h.size += 8
		if id == "data" {
			if h.format == nil {
				return nil, fail("WAV", "the samples come before their format (no fmt chunk)")
			}
			h.length = length
			if length == math.MaxUint32 && long > 0 {
				h.length, h.wide = long, true
			}
			return h, nil
		}
		var body [40]byte // more has no chunk that is looked at
		n, err := io.ReadFull(r, body[:min(length, uint64(len(body)))])
		if failed(err) {
			return nil, err
		}
		switch {
		case id == "fmt ":
			if h.format, err = parseFormat(body[:n]); err != nil {
				return nil, err
			}
		case id == "ds64" && n >= 16:
			long = binary.LittleEndian.Uint64(body[8:])
		}
		length += length % 2 // chunks are padded to even lengths
		h.size += length
		if _, err := io.CopyN(io.Discard, r, int64(length)-int64(n)); failed(err) {
			return nil, err
		}
	}
}

// failed reports whether reading failed, which the end of the data is not.
func failed(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// cutOff says what is missing of a file that ends in its header.
func (h *wavHeader) cutOff() error {
	if h.format == nil {
		return fail("WAV", "there is no fmt chunk: the file is damaged, or cut off in its header")
	}
	return fail("WAV", "there are no samples (no data chunk): the file is damaged, or cut off in its header")
}
